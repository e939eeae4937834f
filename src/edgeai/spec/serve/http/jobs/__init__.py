"""Conversion of HTTP requests to engine jobs: prompts, grammars of the answers, sampling options and checks."""
