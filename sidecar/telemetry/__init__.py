"""What operators see of the sidecar: metrics and traces."""
