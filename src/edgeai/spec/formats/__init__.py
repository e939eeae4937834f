"""Import and export of draft heads in the file formats of SGLang, vLLM, speculators and the EAGLE repository."""
