"""Costs of every cut and method from shapes alone (formulas in `client_cost.py`), and a recommendation."""
