"""Configs of the `edgeai collab` verbs: streams, models, upload policy, pretraining, and the whole run."""
