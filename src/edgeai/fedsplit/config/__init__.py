"""Configs of the `edgeai fedsplit` verbs, one file per subject."""
