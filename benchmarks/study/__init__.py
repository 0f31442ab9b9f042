"""What losses do to ranking and calibration, over datasets and seeds: docs/results.md."""
