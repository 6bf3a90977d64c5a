"""Finds the hands in a picture: their boxes, sides, scores and joints."""
