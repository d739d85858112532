"""
Intake that goes on while questions are asked: a process of its own that sends at a steady rate.

    python query_load.py HOST:PORT RATE

It sends until its stdin ends, then waits for the answers and prints one line of JSON. Unlike the generator, which keeps so many
batches in flight, it sends one when it is time for one: the service is busy with intake, and not saturated.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import batches
import grpc
import grpc.aio
import uvloop
from processes import BenchError

_BATCH: Final = 100
_CONNECTIONS: Final = 8
# Beyond this the sender waits, as an SDK would: the rate is then not reached, which the outcome says.
_MOST_IN_FLIGHT: Final = 256
_UNARY: Final = "/flagledger.v1.EvaluationService/RecordEvaluations"
_METADATA: Final = (("x-environment-key", batches.KEY),)
_PATIENCE: Final = 30.0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """
    What became of it.

    Attributes:
        acknowledged: Evaluations that were.
        seconds: From the first batch until no more was sent.
        failures: Answers that were anything but what was expected, by what they said.
    """

    acknowledged: int = 0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)


class SteadyLoad:
    """A load of about *rate* evaluations a second on the gRPC server at *address*, which begins at once."""

    def __init__(self, address: str, rate: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), address, str(rate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def stop(self) -> Outcome:
        """
        Send no more, and return what became of it.

        Raises:
            BenchError: It ended by itself before.
        """
        try:
            said, _ = self._process.communicate(timeout=2 * _PATIENCE)
        except subprocess.TimeoutExpired:
            self.close()
            said = b""
        if not said:
            raise BenchError("The load on intake broke off; what it had to say stands above.")
        return Outcome(**json.loads(said))

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()


async def send(address: str, rate: int, until: asyncio.Event) -> Outcome:
    """Send batches at *rate* evaluations a second to *address* until *until* is set, and wait for their answers."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(_CONNECTIONS)]
    calls: list[Any] = [channel.unary_unary(_UNARY) for channel in channels]
    outcome = Outcome()
    expected = batches.answer(_BATCH)
    room = asyncio.Semaphore(_MOST_IN_FLIGHT)

    async def one(number: int, request: bytes) -> None:
        try:
            answer = await calls[number % _CONNECTIONS](request, metadata=_METADATA, timeout=_PATIENCE)
        except grpc.aio.AioRpcError as error:
            outcome.failures[f"{error.code().name}: {error.details()}"] += 1
        else:
            if answer == expected:
                outcome.acknowledged += _BATCH
            else:
                outcome.failures[f"answer {answer!r}"] += 1
        finally:
            room.release()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as sent:
        for number, request in enumerate(batches.protobuf_batches(_BATCH)):
            await asyncio.sleep(max(0.0, started + number * _BATCH / rate - time.perf_counter()))
            await room.acquire()
            if until.is_set():
                break
            sent.create_task(one(number, request))
        outcome.seconds = time.perf_counter() - started
    await asyncio.gather(*(channel.close() for channel in channels))
    return outcome


async def _main(address: str, rate: int) -> None:
    until = asyncio.Event()
    sending = asyncio.create_task(send(address, rate, until))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    until.set()
    print(json.dumps(dataclasses.asdict(await sending)))


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2])))
