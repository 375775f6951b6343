"""Puts the checkout on the path: the generators in `deploy/` belong to no installed package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
