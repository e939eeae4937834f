"""Upload and training strategies, one file a family."""
