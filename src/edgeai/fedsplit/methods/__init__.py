"""Training methods: the interface, shared building blocks, and one file per method in a folder per family."""
