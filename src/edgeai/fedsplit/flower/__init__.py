"""fedsplit on Flower: the only place that knows it."""
