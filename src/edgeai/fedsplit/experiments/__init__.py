"""Whole experiments on any backend: one simulation, or a comparison of many."""
