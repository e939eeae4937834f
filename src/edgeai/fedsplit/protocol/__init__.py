"""What crosses between clients and server: messages, codecs, channels, and the two halves of a model."""
