"""The frame worker: reads the queue, asks the sidecar, counts hands."""
