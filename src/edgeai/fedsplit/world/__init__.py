"""The simulated world: devices, links, participation and virtual time."""
