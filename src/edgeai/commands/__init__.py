"""Command-line interface: parse, load the config, call one area function, render."""
