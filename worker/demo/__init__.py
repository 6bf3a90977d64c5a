"""The demo: the whole service on this machine, with drawn cameras, checked at the end."""
