"""Protocol between clients and server: messages, codecs, channels, transports, rounds, and both halves of a model."""
