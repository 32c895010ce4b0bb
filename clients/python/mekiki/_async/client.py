"""The client: one address, four services."""

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Self

from grpc_health.v1 import health_pb2, health_pb2_grpc

from mekiki import errors
from mekiki._async.anomaly import AsyncAnomaly
from mekiki._async.boxfit import AsyncBoxfit
from mekiki._async.codec import AsyncCodec
from mekiki._async.funnel import Funnel
from mekiki._async.operations import AsyncOperations
from mekiki._async.saliency import AsyncSaliency
from mekiki._values.service import SERVICES, ServiceStatus
from mekiki._wire import asynchronous as wire
from mekiki._wire.policy import DEFAULT_OPTIONS, VERSION_KEY, Call, ClientOptions


class AsyncClient:
    """Speaks to the services.

    Attributes:
        codec: data sets.
        saliency: classifiers.
        boxfit: boxes.
        anomaly: detectors.
        operations: long work, found again by name.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:8080",
        *,
        options: ClientOptions = DEFAULT_OPTIONS,
        addresses: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Makes a client; the connection is made when it is first used.

        Args:
            address: host:port of all services, or of those that `addresses` does not name. A name that stands for
                several hosts is used in turn.
            options: deadlines, retries, window, limits.
            addresses: for a service that lives elsewhere, such as "codec": its own host:port.

        Raises:
            ValueError: `addresses` names a service that there is not.
        """
        if unknown := set(addresses) - set(SERVICES):
            raise ValueError(f"addresses may name {', '.join(SERVICES)}, not {', '.join(sorted(unknown))}")
        wanted = {service: addresses.get(service, address) for service in SERVICES}
        opened = {place: wire.open_channel(place, options) for place in sorted(set(wanted.values()))}
        self._channels = {service: opened[place] for service, place in wanted.items()}
        self._addresses = wanted
        self._funnel = Funnel(options)
        self.codec = AsyncCodec(self._channels["codec"], self._funnel)
        self.saliency = AsyncSaliency(self._channels["saliency"], self._funnel)
        self.boxfit = AsyncBoxfit(self._channels["boxfit"], self._funnel)
        self.anomaly = AsyncAnomaly(self._channels["anomaly"], self._funnel)
        self.operations = AsyncOperations(self._channels, self._funnel)

    async def check_service(self, service: str, *, timeout_s: float | None = None) -> ServiceStatus:
        """Whether a service ("codec", "saliency", "boxfit", "anomaly") serves, and its version.

        That it cannot be reached is an answer too, and raises nothing.
        """
        stub = health_pb2_grpc.HealthStub(self._channels[service])
        request = health_pb2.HealthCheckRequest(service=SERVICES[service])
        call = Call(self._funnel.options, timeout_s or 5.0, repeatable=True)
        try:
            response, metadata = await self._funnel.answer(stub.Check, request, call)
        except errors.MekikiError as error:
            state = "absent" if isinstance(error, errors.NotFound | errors.Unimplemented) else "unreachable"
            return ServiceStatus(service, self._addresses[service], state, "", error.message)
        state = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status).lower()
        return ServiceStatus(service, self._addresses[service], state, str(metadata.get(VERSION_KEY, "")), "")

    async def close(self) -> None:
        """Ends the connections; calls under way are cancelled."""
        for channel in dict.fromkeys(self._channels.values()):
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
