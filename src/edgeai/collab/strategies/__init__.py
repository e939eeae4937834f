"""Strategies: each decides whether a frame is uploaded and what is trained; one file a family."""
