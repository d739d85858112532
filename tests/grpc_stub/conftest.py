"""pytest-grpc's fixtures, pointed at the running service: its own fake server is never used."""

from __future__ import annotations

import pytest
from support.server import RunningServer


@pytest.fixture(scope="module")
def grpc_addr(running_server: RunningServer) -> str:
    """Return where the running service serves gRPC."""
    return running_server.grpc_target


@pytest.fixture(scope="module")
def grpc_server(running_server: RunningServer) -> RunningServer:
    """Return the running service in the place of a server in this process."""
    return running_server


@pytest.fixture(scope="module")
def grpc_add_to_server() -> None:
    """Add nothing: the service has its servicers already."""


@pytest.fixture(scope="module")
def grpc_servicer() -> None:
    """Make nothing: the service has its servicers already."""


@pytest.fixture(scope="module")
def grpc_stub_cls(grpc_channel: object) -> type:
    """Return the blocking stub of the contract."""
    from flagledger.v1 import evaluation_service_pb2_grpc

    return evaluation_service_pb2_grpc.EvaluationServiceStub
