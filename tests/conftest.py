"""What all tests share."""

from hypothesis import HealthCheck, settings
from support.processes.programs import use_forks

# No test depends on the machine's speed, or on luck: hypothesis neither times a test nor its examples, and takes the same
# examples each time. `--hypothesis-profile search` looks for others, and prints what it finds to be replayed.
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("suite")

# The programs are real processes in all tests; most needn't import everything anew.
use_forks()
