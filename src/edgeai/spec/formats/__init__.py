"""Draft heads in the files of other tools: SGLang, vLLM, speculators and the EAGLE repository."""
