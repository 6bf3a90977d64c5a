"""What the two programs have in common as processes: settings, logs, the HTTP endpoint, access to Redis."""
