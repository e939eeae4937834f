"""`spec bench`: speed of speculative decoding, losslessness, and other implementations."""
