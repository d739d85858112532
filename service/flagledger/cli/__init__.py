"""
The `flagledger` command, as far as it must work where nothing else is installed.

Everything that needs a library is in the other modules of this room; this one needs the standard library alone.
"""

from __future__ import annotations

import sys

INSTALL_LINE = "pip install 'flagledger[server]'"


def main() -> int:
    """Run the command that the process was started with; return or exit with its code."""
    try:
        from flagledger.cli.commands import root  # noqa: PLC0415 - it needs libraries that may be missing

        root.main(prog_name="flagledger")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing == "flagledger" or missing in sys.stdlib_module_names:
            raise
        sys.stderr.write(f"flagledger: the command needs {missing}, which is not installed. Install what it needs:\n\n")
        sys.stderr.write(f"  {INSTALL_LINE}\n")
        return 2
    return 0
