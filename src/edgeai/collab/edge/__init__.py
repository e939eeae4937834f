"""The edge: the deployed model, its frame queue, and the uplink."""
