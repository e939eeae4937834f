"""Continuous batching: slots, drafting, sampling and the decoding loop of the server."""
