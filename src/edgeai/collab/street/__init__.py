"""The generated street: an endless drive with exact labels and depth. Night, fog and rain are in `streams/drift.py`."""
