"""Kills, freezes and spoils the parts of a running system at random, and checks that every frame is settled exactly once."""
