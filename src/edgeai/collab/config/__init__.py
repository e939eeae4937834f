"""Configs of the `edgeai collab` verbs."""
