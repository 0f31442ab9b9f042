"""One rank's failure ends all, a NaN never reaches a table, SIGTERM saves."""
