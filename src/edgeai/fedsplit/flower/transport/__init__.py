"""Messages between server and devices on Flower: one Flower message per exchange, or one gRPC stream per round."""
