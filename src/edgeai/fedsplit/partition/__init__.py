"""Partitions of a data set over clients: by rows (assign), by inputs or appearance (views)."""
