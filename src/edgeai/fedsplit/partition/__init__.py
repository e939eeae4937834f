"""Partitions of a data set over clients."""
