"""Simulated runs: virtual clock, byte ledger, devices, history and verification."""
