import sys
from pathlib import Path

# The bench is a program, not a package: its modules find each other beside `__main__.py`, and so do its tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
