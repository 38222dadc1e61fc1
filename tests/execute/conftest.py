"""Lets worker processes import the jobs of these tests by name."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
