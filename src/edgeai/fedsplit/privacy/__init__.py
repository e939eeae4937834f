"""Client-side protection, its guarantees, and measured leakage."""
