"""What tracing costs a call like ScoreImage, whose spans are its own, its wait and its computing: the work of tracing
alone, and whole calls of a tiny model over loopback, with a real collector in a thread of this process.
"""

import asyncio
import statistics
import tempfile
import time
from contextvars import copy_context

import grpc
import numpy as np

from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from services.runtime.config import Settings
from services.runtime.images import encode_heatmap
from services.runtime.logs import configure_logs
from services.runtime.server import Server
from services.runtime.traces import Tracing, add_span, end_call, recorded_place
from tests.bench.figures import Figures
from tests.collector import collecting
from tests.runtime.tiny import OPENING

RPC = "/mekiki.anomaly.v1.AnomalyService/ScoreImage"
HEADERS = [("x-request-id", "0123456789abcdef"), ("user-agent", "grpc-python-asyncio/1.85.1")]
ROUNDS, WORKS, CALLS = 7, 2000, 500


def main() -> None:
    """Measures, prints and writes build/bench/traces.json."""
    configure_logs("info")
    figures = Figures("traces")
    with collecting() as collector:
        modes = {"off": ("", 1.0), "on, not recorded": (collector.endpoint, 0.0), "on": (collector.endpoint, 1.0)}
        for mode, (endpoint, ratio) in modes.items():
            tracing = Tracing(endpoint, ratio)
            figures.add(f"work of tracing a call, {mode}", min(time_work(tracing) for _ in range(ROUNDS)), "µs")
            tracing.close()
        for mode, seconds in asyncio.run(time_calls(modes)).items():
            figures.add(f"a call, {mode}, median", statistics.median(seconds) * 1e6, "µs")
    figures.finish()


def time_work(tracing: Tracing) -> float:
    """Of one call's tracing, µs."""
    start_s = time.perf_counter()
    for _ in range(WORKS):
        copy_context().run(trace_one, tracing)
    return (time.perf_counter() - start_s) / WORKS * 1e6


def trace_one(tracing: Tracing) -> None:
    """What the interceptor and the batcher do."""
    span = tracing.start_call(RPC, HEADERS, frames=False)
    place, now_s = recorded_place(), time.monotonic()
    add_span(place, "wait anomaly.score", now_s, now_s)
    add_span(place, "compute anomaly.score", now_s, now_s, batch_size=1)
    end_call(span, "OK", "0123456789abcdef")


async def time_calls(modes: dict[str, tuple[str, float]]) -> dict[str, list[float]]:
    """Seconds of calls one after the other, the modes taking turns."""
    request = boxfit_pb2.FitBoxRequest(heatmap=encode_heatmap(np.ones((2, 3), np.float32)))
    seconds: dict[str, list[float]] = {mode: [] for mode in modes}
    with tempfile.TemporaryDirectory() as folder:
        servers = {mode: await open_server(folder, *said) for mode, said in modes.items()}
        for _ in range(ROUNDS):
            for mode, server in servers.items():
                async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                    seconds[mode] += await time_some(boxfit_pb2_grpc.BoxfitServiceStub(channel), request)
        for server in servers.values():
            await server.drain()
    return seconds


async def open_server(folder: str, endpoint: str, ratio: float) -> Server:
    """A tiny service."""
    settings = Settings(
        port=0, metrics_port=0, store_url=f"file://{folder}", traces_endpoint=endpoint, traces_ratio=ratio
    )
    server = Server([OPENING], [settings])
    await server.start()
    return server


async def time_some(stub: boxfit_pb2_grpc.BoxfitServiceStub, request: boxfit_pb2.FitBoxRequest) -> list[float]:
    """Seconds of each call."""
    await stub.FitBox(request)
    seconds = []
    for _ in range(CALLS):
        start_s = time.perf_counter()
        await stub.FitBox(request)
        seconds.append(time.perf_counter() - start_s)
    return seconds


if __name__ == "__main__":
    main()
