"""edgeai: speculative decoding, edge-cloud collaboration and split federated learning in one toolkit."""

__version__ = "0.1.0"
