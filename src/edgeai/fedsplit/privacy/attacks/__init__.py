"""Attacks on smashed data (decoder, UnSplit, feature-space hijacking) and on gradients at the cut (labels)."""
