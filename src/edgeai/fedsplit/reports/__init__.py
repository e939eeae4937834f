"""Results of the `edgeai fedsplit` verbs and their HTML pages."""
