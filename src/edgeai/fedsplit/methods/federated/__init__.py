"""Federated methods: every client trains the whole model."""
