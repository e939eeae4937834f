"""Import and export of draft heads: SGLang, vLLM, speculators and the EAGLE repository."""
