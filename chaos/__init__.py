"""Kills, freezes and spoils the parts of a running system at random, and checks that every frame has exactly one ending."""
