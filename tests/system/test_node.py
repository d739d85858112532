"""A client of another language: Node's own gRPC on the .proto files as they lie in the folder, nothing generated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.reading import evaluations, wait_for_total
from support.server import KIT_ENVIRONMENTS, RunningServer
from system.test_serve import kit, kit_environment

pytestmark = [pytest.mark.system, pytest.mark.slow]

PROTO = Path(__file__).parents[2] / "proto"
NPM = shutil.which("npm")
CLIENT = """
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const [target, proto, key, feature] = process.argv.slice(2);
const definition = loader.loadSync('flagledger/v1/evaluation_service.proto',
  {includeDirs: [proto], keepCase: true, longs: Number, defaults: true});
const {EvaluationService} = grpc.loadPackageDefinition(definition).flagledger.v1;
const client = new EvaluationService(target, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set('x-environment-key', key);
client.RecordEvaluations({batch: {evaluations: [{
  feature_name: feature, enabled: true, value: {stringValue: 'variant_a'}, identity_identifier: 'from-node',
  evaluation_timestamp: {seconds: Date.parse('2026-02-10T11:00:00Z') / 1000},
  identity_traits: [{trait_key: 'email', trait_value: {stringValue: 'user@example.com'}}],
  segment_names: ['premium_users']}]}}, metadata, (error, answer) => {
    if (error) { console.error(error); process.exit(1); }
    const {accepted_count, filtered_count, rejected_count, duplicate} = answer;
    console.log(JSON.stringify({accepted_count, filtered_count, rejected_count, duplicate}));
    client.close();
});
"""


@pytest.mark.skipif(NPM is None, reason="npm is not here; install it (Debian: apt-get install nodejs npm)")
def test_node(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """Node reads the folder as it is, gets the same answer as curl, and its evaluation is there within two seconds."""
    server = server_factory(environments=KIT_ENVIRONMENTS)
    key, feature = kit()
    (tmp_path / "client.cjs").write_text(CLIENT)
    installed = subprocess.run(
        [str(NPM), "install", "--no-audit", "--no-fund", "@grpc/grpc-js", "@grpc/proto-loader"],
        cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False, env={**os.environ, "CI": "1"},
    )  # fmt: skip
    if installed.returncode:
        pytest.skip(f"npm could not install @grpc/grpc-js, is its registry reachable? {installed.stderr[-300:]}")

    answered = subprocess.run(
        ["node", "client.cjs", server.grpc_target, str(PROTO), key, feature],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert "" == answered.stderr
    assert {"accepted_count": 1, "filtered_count": 0, "rejected_count": 0, "duplicate": False} == json.loads(
        answered.stdout
    )
    assert 1 == wait_for_total(server, 1, seconds=2, environment=kit_environment())
    [recorded] = evaluations(server, environment=kit_environment())
    assert ("from-node", "variant_a", ["premium_users"]) == (
        recorded["identity_identifier"],
        recorded["value"],
        recorded["segment_names"],
    )
