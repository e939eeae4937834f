"""Models as chains of named layers, and the factory that builds them."""
