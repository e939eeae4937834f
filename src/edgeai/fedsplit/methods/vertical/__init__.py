"""Methods for data split by features or along a sequence."""
