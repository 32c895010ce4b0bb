"""A gRPC server for one service or for all four: health, reflection, operations, gate, TLS, drain."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import grpc
from google.longrunning import operations_pb2
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from services.runtime.arenas import limit_arenas
from services.runtime.config import Settings, load_settings
from services.runtime.errors import Unavailable
from services.runtime.gate import Gate
from services.runtime.interceptor import CallInterceptor
from services.runtime.logs import configure_logs, get_logger
from services.runtime.operations import Operations, add_operations_to_server
from services.runtime.tls import open_server_credentials
from services.runtime.traces import Tracing

LOOPBACK = "127.0.0.1"
_LAST_WORD_S = 0.1  # for health to tell its watchers
_QUIET_S = 0.1  # without a new call, and the last one is surely in work
_BUSY_S = 3.0  # where calls go on coming, all the same


async def _nothing() -> None:
    """Does nothing: a service that has nothing to start or close."""


@dataclass(frozen=True)
class Service:
    """One service, ready to be put on a port.

    Attributes:
        name: such as "codec"; operations of the service begin with it.
        descriptor: of its proto service.
        servicer: answers its RPCs.
        add_to_server: the generated function that registers the servicer.
        operations: its long-running operations, where it has some; the server opens and closes them.
        start: awaited before health says SERVING.
        close: awaited after the last call has ended.
    """

    name: str
    descriptor: ServiceDescriptor
    servicer: object
    add_to_server: Callable[[Any, grpc.aio.Server], None]
    operations: Operations | None = None
    start: Callable[[], Awaitable[None]] = _nothing
    close: Callable[[], Awaitable[None]] = _nothing


@dataclass(frozen=True)
class Opening:
    """How a service is opened: its settings and the function that takes them (inside the running loop)."""

    name: str
    settings_class: type[Settings]
    open_service: Callable[[Any], Service]


def run(openings: Sequence[Opening]) -> None:
    """Serves until SIGTERM or SIGINT, drains, and returns."""
    limit_arenas()
    settings = [load_settings(opening.settings_class) for opening in openings]
    configure_logs(settings[0].log_level)
    asyncio.run(_run(openings, settings))


async def _run(openings: Sequence[Opening], settings: Sequence[Settings]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server(openings, settings)
    await server.start()
    print(f"mekiki is ready at {LOOPBACK}:{server.port}", flush=True)  # noqa: T201 - for whoever started us
    await stop.wait()
    await server.drain()


_LEAST_PING_INTERVAL_MS = 1_000


class Server:
    """A port with its services. `start`, then `drain`."""

    def __init__(self, openings: Sequence[Opening], settings: Sequence[Settings]) -> None:
        self._openings = openings
        self._settings = settings
        self._services: list[Service] = []
        self._health = health.aio.HealthServicer()
        self._closing = AsyncExitStack()
        self._log = get_logger()
        first = settings[0]
        self._tracing = Tracing(
            first.traces_endpoint, first.traces_ratio, openings[0].name if len(openings) == 1 else "mekiki"
        )
        self._calls = CallInterceptor(product_version(), Gate(first), self._tracing)
        self._server = grpc.aio.server(
            interceptors=[self._calls],
            options=[
                ("grpc.max_receive_message_length", first.max_message_bytes),
                ("grpc.max_send_message_length", first.max_message_bytes),
                ("grpc.so_reuseport", 0),
                ("grpc.max_connection_age_ms", int(first.max_connection_age_s * 1000)),
                ("grpc.max_connection_age_grace_ms", int(first.max_connection_age_grace_s * 1000)),
                # gRPC's own limit, five minutes, ends connections of clients that probe a silent one more often.
                ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_INTERVAL_MS),
            ],
        )
        self.port = 0

    async def start(self) -> None:
        """Binds the port, opens and starts the services, and says SERVING.

        Raises:
            Unavailable: the port is taken.
        """
        first = self._settings[0]
        self.port = self._bind(first.host, first.port)
        for opening, settings in zip(self._openings, self._settings, strict=True):
            self._services.append(opening.open_service(settings.model_copy(update=self._neighbours())))
        self._register()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()
        for service in self._services:
            await self._start(service)
        http, _ = start_http_server(first.metrics_port, addr=first.host)
        self._closing.callback(http.server_close)
        self._closing.callback(http.shutdown)
        if first.health_port is not None:
            await self._serve_health(first.host, first.health_port)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self._log.info(
            "serving", host=first.host, port=self.port, metrics_port=http.server_port, services=self._names()
        )

    async def drain(self) -> None:
        """Says NOT_SERVING, takes no new calls, lets those in flight finish, and closes the services."""
        self._log.info("draining", services=self._names())
        await self._health.enter_graceful_shutdown()
        for service in self._services:
            if service.operations is not None:
                service.operations.begin_drain()
        # gRPC cancels what has come in and not reached its handler when it is told to stop.
        await self._calls.wait_until_quiet(_QUIET_S, min(_BUSY_S, self._settings[0].drain_timeout_s))
        stopping = asyncio.create_task(self._server.stop(self._settings[0].drain_timeout_s))
        idle = asyncio.create_task(self._calls.wait_until_idle())
        await asyncio.wait([stopping, idle], return_when="FIRST_COMPLETED")
        await asyncio.sleep(_LAST_WORD_S)
        self._calls.end_endless()
        # Calls that had come in but not reached their handler when it looked idle still have their time.
        await stopping
        idle.cancel()
        await self._closing.aclose()
        await asyncio.to_thread(self._tracing.close)
        self._log.info("stopped", services=self._names())

    async def _start(self, service: Service) -> None:
        self._closing.push_async_callback(service.close)
        if service.operations is not None:
            await service.operations.open()
            self._closing.push_async_callback(service.operations.close)
        await service.start()

    async def _serve_health(self, host: str, port: int) -> None:
        """A server of its own, so that this port has nothing else to offer. It answers until the very end."""
        plain = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, plain)
        self._open_port(plain, host, port, None)
        await plain.start()
        self._closing.push_async_callback(plain.stop, 0)

    def _bind(self, host: str, port: int) -> int:
        credentials = open_server_credentials(self._settings[0])
        return self._open_port(self._server, host, port, credentials)

    def _open_port(
        self, server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None
    ) -> int:
        try:
            if credentials is None:
                return int(server.add_insecure_port(f"{host}:{port}"))
            return int(server.add_secure_port(f"{host}:{port}", credentials))
        except RuntimeError as error:
            raise Unavailable(
                f"cannot listen on {host}:{port}: the port is taken or the address is not ours"
            ) from error

    def _neighbours(self) -> dict[str, str]:
        """Returns the addresses of neighbours that live on this very port."""
        return {f"{opening.name}_address": f"{LOOPBACK}:{self.port}" for opening in self._openings}

    def _register(self) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in self._services:
            service.add_to_server(service.servicer, self._server)
        operations = {service.name: service.operations for service in self._services if service.operations}
        add_operations_to_server(operations, self._server)
        names = [service.descriptor.full_name for service in self._services]
        names += [operations_pb2.DESCRIPTOR.services_by_name["Operations"].full_name, health.SERVICE_NAME]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", *(service.descriptor.full_name for service in self._services)):
            await self._health.set(name, status)

    def _names(self) -> list[str]:
        return [opening.name for opening in self._openings]


def product_version() -> str:
    """Returns the version that every response states."""
    try:
        return version("mekiki")
    except PackageNotFoundError:
        return "0.1.0"
