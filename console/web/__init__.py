"""The operators' web page and its server: every camera, its limit, and why frames are or aren't counted."""
