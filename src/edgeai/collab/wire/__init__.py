"""Serialization of everything sent over the link: frames, label maps and model updates."""
