"""Draft heads and drafters: the EAGLE-3 head, draft trees, prompt lookup, and head checkpoints."""
