"""The released SDK of Node.js, unmodified."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from sdks.beside import Beside
from sdks.conftest import key_of
from sdks.installed import NODE, node_modules

pytestmark = pytest.mark.system

# What it flushes by itself ten seconds after the last time, and only if another flag is evaluated then.
REMOTE = """
const flags = await client.getEnvironmentFlags();
for (let i = 0; i < 3; i++) console.assert(flags.isFeatureEnabled("checkout"));
console.assert(flags.getFeatureValue("dark_mode") === "dark");
await client.analyticsProcessor.flush();
"""
LOCAL = """
const local = new Flagsmith({
  environmentKey: "ser." + client.environmentKey,
  apiUrl: client.apiUrl,
  enableLocalEvaluation: true,
  enableAnalytics: true,
});
const flags = await local.getIdentityFlags("user_123", { plan: "pro" });
for (let i = 0; i < 2; i++) console.assert(flags.isFeatureEnabled("checkout"));
console.assert(!flags.isFeatureEnabled("old_banner"));
await local.analyticsProcessor.flush();
await local.close();
"""


@pytest.fixture(scope="module")
def installed(request: pytest.FixtureRequest) -> Path:
    """Return the folder with the SDK."""
    return node_modules(request.config.cache)


def run(program: str, installed: Path) -> None:
    """Run *program* as a module beside the SDK."""
    done = subprocess.run(
        [str(NODE), "--input-type=module", "--eval", program],
        cwd=installed, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ("", 0) == (done.stderr, done.returncode)


@pytest.mark.parametrize(
    ("environment", "program", "origin", "counted"),
    [
        ("node", REMOTE, "ORIGIN_CLIENT", {"checkout": 3, "dark_mode": 1}),
        ("node-local", LOCAL, "ORIGIN_SERVER", {"checkout": 2, "old_banner": 1}),
    ],
)
def test_counts(
    beside: Beside, installed: Path, environment: str, program: str, origin: str, counted: dict[str, int]
) -> None:
    """Through a front at `apiUrl` counts come here and flags from Flagsmith, where they are evaluated there and where here."""
    key = key_of(environment)
    run(beside.block("node.mjs", key) + program, installed)
    recorded = beside.recorded(environment, total=sum(counted.values()))
    [report] = beside.front.reports(key if origin == "ORIGIN_CLIENT" else f"ser.{key}")

    assert ("flagledger", "/api/v1/analytics/flags/", 200) == (report.server, report.path, report.status)
    assert counted == {one["feature_name"]: one["count"] for one in recorded}
    for one in recorded:
        assert (None, None, origin) == (one.get("enabled"), one.get("identity_identifier"), one["origin"])
        # Every release that names itself looks for its version where it is not, and then says this.
        assert ("unknown", "") == (one["sdk_name"], one["sdk_version"])
