"""The limits in force: the hash in Redis, and the table that follows it."""
