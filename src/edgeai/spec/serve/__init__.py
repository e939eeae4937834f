"""`edgeai spec serve`: an OpenAI-compatible server in which many requests share every pass of the target."""
