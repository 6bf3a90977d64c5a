"""The command ``fpsctl``."""
