"""Protections on the client, their guarantees, and measured leakage; `attacks` holds the attacks."""
