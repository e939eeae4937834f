"""Pretraining of the edge net, the cloud net and sam-tiny on labeled scenes."""
