"""The pod runner of ci/ is imported by the tests as it is by `python -m podrun`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "ci"))
