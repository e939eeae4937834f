"""Results of runs and comparisons, and their HTML pages."""
