"""Checks of model files where they enter: what would be computed wrongly is refused, on both runtimes alike."""
