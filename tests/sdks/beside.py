"""A Flagsmith, a Flagledger and a proxy in front of both, as the blocks of code in this folder mean them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from support.flagsmith_stub import FlagsmithStub
from support.front import Front
from support.reading import evaluations, wait_for_total
from support.server import RunningServer

BLOCKS = Path(__file__).parent / "blocks"
FEATURES = ("checkout", "dark_mode", "old_banner")


@dataclass(frozen=True, kw_only=True)
class Beside:
    """
    What an SDK speaks to.

    Attributes:
        flagsmith: Serves flags.
        flagledger: Records what is reported.
        front: Stands before both.
    """

    flagsmith: FlagsmithStub
    flagledger: RunningServer
    front: Front

    def block(self, name: str, key: str) -> str:
        """Return the block *name* with the addresses of this machine, and with *key*."""
        code = (BLOCKS / name).read_text(encoding="utf-8")
        for address, real in self.addresses.items():
            code = code.replace(address, real)
        assert "<key>" in code
        assert not re.search(r"https://\w+\.example", code)
        return code.replace("<key>", key)

    @property
    def addresses(self) -> dict[str, str]:
        """What blocks call the three."""
        return {
            "https://flagsmith.example": self.flagsmith.url.removesuffix("/api/v1/"),
            "https://flagledger.example": self.flagledger.http_url,
            "https://flags.example": self.front.url,
        }

    def recorded(self, environment: str, total: int) -> list[dict[str, object]]:
        """Return what is recorded in *environment*, by feature, once the counts add up to *total*."""
        found = wait_for_total(self.flagledger, total, seconds=10, environment=environment)
        assert total == found, f"{environment} has {found} instead of {total}"
        return sorted(evaluations(self.flagledger, environment=environment), key=lambda one: str(one["feature_name"]))
