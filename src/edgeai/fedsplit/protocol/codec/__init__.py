"""Codecs, one file each: a tensor becomes a payload and side information, and a tensor again."""
