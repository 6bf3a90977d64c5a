"""Simulated cameras: they draw moving hands, whose true number in each frame is known."""
