"""What the Python API of every area shares: lazy names, configs, progress callbacks and recorded runs."""
