"""Configs of the `edgeai fedsplit` verbs, one file a subject."""
