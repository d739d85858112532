"""`python -m flagledger.cli` is the `flagledger` command."""

from __future__ import annotations

import sys

from flagledger.cli import main

sys.exit(main())
