"""Random and mutated requests for the sidecar, over the wire. ``python -m fuzz --help``."""
