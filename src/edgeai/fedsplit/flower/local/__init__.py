"""A Flower deployment on this machine: processes, keys and files."""
