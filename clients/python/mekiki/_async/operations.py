"""Long-running operations, found again by name."""

from collections.abc import Mapping
from typing import Any

from google.longrunning import operations_pb2, operations_pb2_grpc

from mekiki._async.funnel import Funnel
from mekiki._async.operation import AsyncOperation
from mekiki._wire import asynchronous as wire

PAGE_SIZE = 200


class AsyncOperations:
    """Everything long-running that the services do or did; an operation's name begins with its service."""

    def __init__(self, channels: Mapping[str, wire.Channel], funnel: Funnel) -> None:
        self._funnel = funnel
        self._stubs = {name: operations_pb2_grpc.OperationsStub(channel) for name, channel in channels.items()}

    async def get_operation(self, name: str, *, timeout_s: float | None = None) -> AsyncOperation[Any]:
        """An operation by its name.

        Raises:
            NotFound: there is none of that name.
            ValueError: the name does not begin with a service.
        """
        stub = self._stub_of(name)
        request = operations_pb2.GetOperationRequest(name=name)
        return AsyncOperation(self._funnel, stub, await self._funnel.unary(stub.GetOperation, request, timeout_s))

    async def list_operations(
        self, service: str = "", *, timeout_s: float | None = None
    ) -> tuple[AsyncOperation[Any], ...]:
        """All operations of a service, or of all services; `timeout_s` is for each page."""
        operations: list[AsyncOperation[Any]] = []
        for name in [service] if service else self._stubs:
            stub = self._stub_of(name)
            request = operations_pb2.ListOperationsRequest(name=name, page_size=PAGE_SIZE)
            while True:
                response = await self._funnel.unary(stub.ListOperations, request, timeout_s)
                operations += [AsyncOperation(self._funnel, stub, record) for record in response.operations]
                if not response.next_page_token:
                    break
                request.page_token = response.next_page_token
        return tuple(operations)

    async def delete_operation(self, name: str, *, timeout_s: float | None = None) -> None:
        """Forgets an operation that has ended.

        Raises:
            FailedPrecondition: it has not ended; cancel it first.
            NotFound: there is none of that name.
            ValueError: the name does not begin with a service.
        """
        request = operations_pb2.DeleteOperationRequest(name=name)
        await self._funnel.unary(self._stub_of(name).DeleteOperation, request, timeout_s)

    def _stub_of(self, name: str) -> operations_pb2_grpc.OperationsStub:
        service = name.split("/", 1)[0]
        if service not in self._stubs:
            raise ValueError(f"an operation's name begins with one of {', '.join(self._stubs)}, not {name!r}")
        return self._stubs[service]
