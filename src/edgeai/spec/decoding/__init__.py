"""Plain and speculative decoding: verification, generation, tree tuning and losslessness checks."""
