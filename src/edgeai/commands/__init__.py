"""Talking to a person: parse, load the config, call one area function, render."""
