"""Messages between server and devices on Flower: plain messages and gRPC streams."""
