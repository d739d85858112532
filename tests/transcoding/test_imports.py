from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_stands_alone() -> None:
    """Importing it brings in no store, no web framework, and nothing else of flagledger."""
    script = (
        "import sys, flagledger.transcoding\n"
        "print([name for name in sys.modules if name.split('.')[0] in {'duckdb', 'pyarrow', 'starlette', 'ptars', 'pydantic'}"
        " or (name.startswith('flagledger.') and not name.startswith('flagledger.transcoding'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)

    assert "[]" == done.stdout.strip()


def test_everything_public_is_there() -> None:
    """Every name that the façade lists can be had."""
    import flagledger.transcoding as facade

    assert [] == [name for name in facade.__all__ if not hasattr(facade, name)]
