"""Configs of the `edgeai spec` verbs, one file a verb."""
