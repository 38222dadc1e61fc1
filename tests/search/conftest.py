"""Lets worker processes import the search of `child_search.py` by name."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
