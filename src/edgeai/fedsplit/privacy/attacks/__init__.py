"""Attacks on smashed data and on gradients at the cut."""
