"""Simulation of a run: building it, the training loop, in-process devices, adaptive cuts, history and verification."""
