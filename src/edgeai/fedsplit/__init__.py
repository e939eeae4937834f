"""Federated and split learning across devices."""
