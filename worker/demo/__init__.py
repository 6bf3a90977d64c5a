"""The demo: the whole service on this machine, with simulated cameras and a check at the end."""
