"""Fleet scope: one schedule per stream for all replicas, through claims in Redis."""
