"""Split models: cut positions, cost of the parts, and weights by name."""
