"""`advise`: the costs of every cut and method from shapes alone, and a recommendation."""
