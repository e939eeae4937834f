"""The native runtime: quantized weights as they are in the file, one C++ call per forward pass, exact to the bit."""
