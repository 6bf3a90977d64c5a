"""Decisions about frames, in memory: the streams, their schedules, their rates."""
