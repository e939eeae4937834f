"""Splitting of a model's text into reasoning, content and tool calls, whole or while it is generated."""
