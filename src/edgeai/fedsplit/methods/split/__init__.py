"""Split learning methods: the model is split between clients and server."""
