"""Schemas of messages, tool calls and tools, and checks of JSON values."""
