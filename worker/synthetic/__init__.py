"""Drawn hands and the cameras that see them: a picture source whose truth is known."""
