"""The client of the rate-limit sidecar, for Python programs. Needs grpcio and protobuf alone."""
