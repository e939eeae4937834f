"""Federated learning, split learning, and the ways to combine them, with their costs."""
