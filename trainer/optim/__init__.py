"""What moves the parameters: optimizers, schedules, precision, moving averages."""
