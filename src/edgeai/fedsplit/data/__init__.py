"""Data sets, from the embedded digits to files of many kinds, as tensors."""
