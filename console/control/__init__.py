"""Reads and changes the limits in Redis, with an audit of each change."""
