"""Other implementations that `spec bench` measures on the same prompts: transformers and llama.cpp."""
