"""What all tests share."""

from hypothesis import settings

# No test depends on the machine's speed, so hypothesis sets no deadline; what it finds is printed to be replayed.
settings.register_profile("suite", deadline=None, print_blob=True)
settings.load_profile("suite")
