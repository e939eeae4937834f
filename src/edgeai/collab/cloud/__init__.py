"""The cloud: its answer to a frame, mask fusion, and its server queue."""
