"""Load test: clients, server process, and the comparison of served answers with plain decoding."""
