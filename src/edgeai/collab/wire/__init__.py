"""What crosses the link as bytes: frames, class maps and model updates."""
