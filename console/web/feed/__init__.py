"""One reading of Redis and the sidecars for all viewers."""
