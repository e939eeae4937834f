"""Chat with a running server or with an engine in this process."""
