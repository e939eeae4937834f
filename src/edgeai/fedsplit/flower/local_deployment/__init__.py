"""A Flower deployment on this machine: home folder, processes, TLS and keys, app files, events of a run."""
