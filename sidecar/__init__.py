"""The rate-limit sidecar: owns each stream's fps, its fallback and its timing."""
