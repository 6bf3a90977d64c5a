"""Set-up of all tests."""

from hypothesis import HealthCheck, settings
from support.processes.programs import use_forks

# No test depends on the machine's speed or on luck: hypothesis has no deadlines and uses the same examples each time.
# `--hypothesis-profile search` tries other examples and prints how to replay a failing one.
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("suite")

# The programs are real processes in all tests, but most needn't import everything again.
use_forks()
