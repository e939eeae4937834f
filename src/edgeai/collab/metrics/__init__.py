"""Metrics of a run: confusion matrices, latency quantiles, and theoretical bounds."""
