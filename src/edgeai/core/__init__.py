"""Shared by at least two areas: errors, configs, runs, metrics, checkpoints, sweeps, links, statistics and reports."""
