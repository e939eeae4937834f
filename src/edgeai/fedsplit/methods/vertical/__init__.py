"""Methods for data divided by features or along a sequence."""
