"""Training methods: the interface, shared steps, and one file a method in a folder for each family."""
