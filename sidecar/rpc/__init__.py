"""The gRPC services of the sidecar."""
