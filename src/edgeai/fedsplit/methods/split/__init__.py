"""Split learning methods: the model is divided between clients and server."""
