"""`launch/predict.py`: Parquet in, scored Parquet out."""
