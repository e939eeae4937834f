"""Continual learning: replay buffer, trainer, miner fit, BatchNorm adaptation and model versions."""
