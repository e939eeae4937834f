"""Models as sequences of named layers, and the factory that builds them."""
