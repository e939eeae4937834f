"""Codecs, one file each: compression of smashed data and gradients."""
