"""What can be wrong with a config or its data, found before work starts."""
