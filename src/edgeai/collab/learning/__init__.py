"""Continual learning in the cloud: replay buffer, trainer, BatchNorm adaptation and model versions."""
