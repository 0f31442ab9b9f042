"""Spark job that lays events out by session, and the format of the dataset that it writes."""
