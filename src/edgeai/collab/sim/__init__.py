"""Runs in virtual time: events, the pipeline, and comparisons of strategies."""
