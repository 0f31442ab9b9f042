"""From files to `SessionBatch`: the plan of global batches, reading, encoding, loading."""
