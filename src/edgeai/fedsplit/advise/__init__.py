"""Costs of every cut and method from shapes alone, and a recommendation."""
