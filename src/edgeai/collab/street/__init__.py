"""The generated street: an endless drive with exact labels and depth."""
