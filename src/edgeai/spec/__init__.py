"""Speculative decoding: train a draft head for a frozen language model and decode losslessly faster."""
