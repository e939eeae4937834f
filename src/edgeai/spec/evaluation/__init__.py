"""Measurements of draft heads: speed, acceptance, comparison over seeds, and diagnosis."""
