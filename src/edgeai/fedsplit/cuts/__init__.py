"""Split models: where to cut, what each part costs, and cuts that adapt each round."""
