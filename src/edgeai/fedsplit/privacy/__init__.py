"""Protections of a client's data, and what each of them guarantees."""
