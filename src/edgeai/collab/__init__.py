"""A small vision model at the edge and a large one in the cloud that keeps it sharp while the scene drifts."""
