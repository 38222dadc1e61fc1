"""Lets tests import what they share, which is in `quantized.py`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
