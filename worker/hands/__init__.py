"""Hands in a picture: where they are, which side, and how sure the detector is."""
