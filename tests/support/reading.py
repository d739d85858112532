"""Reading back what a running service has recorded, over its REST API."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from support.server import RunningServer

EVALUATIONS = "/api/v2/analytics/evaluations"
FEATURES = "/api/v2/analytics/features"
ENVIRONMENTS = "/api/v2/analytics/environments"


def wait_for_token(server: RunningServer, token: str, *, seconds: float) -> bool:
    """Return whether *token* is taken for one within *seconds*."""
    request = urllib.request.Request(f"{server.http_url}{ENVIRONMENTS}", headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=30):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            time.sleep(0.1)
    return False


def get(server: RunningServer, path: str, **parameters: object) -> dict[str, Any]:
    """Return the JSON answer of a GET under the read token."""
    query = urllib.parse.urlencode({name: value for name, value in parameters.items() if value})
    request = urllib.request.Request(
        f"{server.http_url}{path}?{query}", headers={"Authorization": f"Bearer {server.read_token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def ask(
    server: RunningServer, method: str, path: str, *, token: str = "", **parameters: object
) -> tuple[int, Mapping[str, str], Any]:
    """Return status, headers and JSON of the answer to a call under *token*, or the read token, whatever it is."""
    query = urllib.parse.urlencode({name: value for name, value in parameters.items() if value})
    request = urllib.request.Request(
        f"{server.http_url}{path}?{query}",
        headers={"Authorization": f"Bearer {token or server.read_token}"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def exported(server: RunningServer) -> Iterator[dict[str, Any]]:
    """Yield every recorded evaluation as the export of the running service has it."""
    request = urllib.request.Request(
        f"{server.http_url}/api/v2/analytics/export?format=ndjson",
        headers={"Authorization": f"Bearer {server.read_token}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            yield json.loads(line)


def metric(server: RunningServer, name: str, labels: str = "") -> float:
    """Return the value of a metric; 0 where the page has none of that name and *labels*."""
    with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=30) as page:
        for line in page.read().decode().splitlines():
            if line.startswith(f"{name}{labels} "):
                return float(line.rpartition(" ")[2])
    return 0.0


def evaluations(server: RunningServer, **filters: object) -> Iterator[dict[str, Any]]:
    """Yield every recorded evaluation that the filters let through, the newest first."""
    token = ""
    while True:
        page = get(server, EVALUATIONS, page_size=1000, page_token=token, **filters)
        yield from page.get("evaluations", ())
        token = page["next_page_token"]
        if not token:
            return


def total(server: RunningServer, environment: str = "") -> int:
    """Return how many evaluations the features report together; 0 while the store cannot be asked."""
    try:
        features = get(server, FEATURES, environment=environment).get("features", ())
    except (urllib.error.URLError, ConnectionError):
        return 0
    return sum(int(feature["evaluation_count"]) for feature in features)


def wait_for_total(server: RunningServer, expected: int, *, seconds: float, environment: str = "") -> int:
    """Return the total once it has reached *expected*, or what it is after *seconds*."""
    deadline = time.monotonic() + seconds
    while (found := total(server, environment)) < expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def post(server: RunningServer, body: object, *, key: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Send a batch as JSON and return status and answer."""
    request = urllib.request.Request(
        f"{server.http_url}{EVALUATIONS}/",
        data=json.dumps(body).encode(),
        headers={"X-Environment-Key": key, "Content-Type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
