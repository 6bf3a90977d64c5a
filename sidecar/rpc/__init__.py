"""What is served over gRPC."""
