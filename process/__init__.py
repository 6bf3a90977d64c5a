"""What both programs do alike as processes: settings from flags and environment, logs, the HTTP endpoint."""
