"""Long-running operations: started by a service, done by a worker process, told by google.longrunning.Operations."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from services.runtime.caller import current_caller
from services.runtime.config import Settings
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Overloaded
from services.runtime.ledger import ID, Ledger
from services.runtime.local_runner import LocalRunner
from services.runtime.runners import Runner
from services.runtime.store import Store
from services.runtime.supervisor import Patience, Supervisor
from services.runtime.tenants import deny_names, find_names, owns

PAGE_SIZE = 50
PAGE_SIZE_LIMIT = 1000

WAITING_LIMIT = 1000
"""Most operations of one service without outcome; the next start is refused."""

Context = grpc.aio.ServicerContext[Message, Message]

LOOK_S = (0.02, 0.5)
"""The first and the longest pause of a wait between two looks at the store."""


@dataclass(frozen=True)
class Page:
    """Some operations, newest first, and the token of the next page ("" after the last)."""

    operations: list[operations_pb2.Operation]
    next_token: str


class Operations:
    """The operations of one service. `open` before use, `close` at the end.

    Args:
        service: its name, with which the operations' names begin.
        store: the service's own, prefixed store; any number of servers may share it.
        runner: starts the workers.
        patience: when a worker counts as lost.
        tenant_limit: most operations of one tenant without outcome.
    """

    def __init__(
        self,
        service: str,
        store: Store,
        runner: Runner,
        patience: Patience | None = None,
        tenant_limit: int = WAITING_LIMIT,
    ) -> None:
        self.service = service
        self._tenant_limit = tenant_limit
        self._ledger = Ledger(service, store)
        self._supervisor = Supervisor(self._ledger, runner, patience or Patience())
        self._draining = False

    async def open(self) -> None:
        """Begins to supervise; also what an earlier server left unfinished."""
        self._supervisor.start()

    def begin_drain(self) -> None:
        """The server is about to stop: each `wait` is answered soon, as things stand, and no worker is started."""
        self._draining = True
        self._supervisor.start_no_more()

    async def close(self) -> None:
        """Stops supervising, and this process's workers; the next server goes on from their checkpoints."""
        await asyncio.to_thread(self._supervisor.close)

    async def start(self, verb: str, request: Message, parts: int = 1) -> operations_pb2.Operation:
        """Writes an operation down, durable on return, for the next free worker, or one for each of its parts.

        Raises:
            Overloaded: too many wait already, in all or of the caller's tenant.
        """
        await asyncio.to_thread(self._check_room)
        operation = await asyncio.to_thread(self._ledger.add, verb, request, parts)
        self._supervisor.wake()
        return await asyncio.to_thread(self._ledger.describe, operation)

    async def get(self, name: str) -> operations_pb2.Operation:
        """The operation as it stands, or NotFound."""
        return await asyncio.to_thread(self._ledger.describe, await self._find(name))

    async def list(self, page_size: int = 0, page_token: str = "") -> Page:
        """A page of operations, newest first; a size of 0 means 50, and 1,000 is the most."""
        if not 0 <= page_size <= PAGE_SIZE_LIMIT:
            raise InvalidArgument("page_size", f"must be 0 to {PAGE_SIZE_LIMIT}, is {page_size}")
        if page_token and not ID.fullmatch(page_token):
            raise InvalidArgument("page_token", "must come from the page before")
        return await asyncio.to_thread(self._page, page_size or PAGE_SIZE, page_token)

    async def cancel(self, name: str) -> None:
        """Asks it to stop; once it has, it ends with CANCELLED. One that has ended stays as it is."""
        await asyncio.to_thread(self._ledger.request_cancel, await self._find(name))
        self._supervisor.wake()

    async def wait(self, name: str, timeout_s: float | None = None) -> operations_pb2.Operation:
        """The operation as soon as it has ended, or as it stands when the time is over or the server drains."""
        operation = await self._find(name)
        await asyncio.to_thread(self._ledger.record, operation)
        deadline_s = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        pause_s = LOOK_S[0]
        while not self._draining and (left_s := deadline_s - time.monotonic()) > 0:
            ended = await asyncio.to_thread(self._ledger.outcome, operation)
            if ended is not None:
                return ended
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, LOOK_S[1])
        return await asyncio.to_thread(self._ledger.describe, operation)

    async def delete(self, name: str) -> None:
        """Forgets an operation that has ended.

        Raises:
            FailedPrecondition: it has not ended; cancel it first.
        """
        operation = await self._find(name)
        described = await asyncio.to_thread(self._ledger.describe, operation)
        if not described.done:
            raise FailedPrecondition("OPERATION_RUNNING", f"operation {name!r} has not ended; cancel it first")
        await asyncio.to_thread(self._ledger.erase, operation)

    async def _find(self, name: str) -> str:
        """The id of an operation that the caller may see, or may learn that it does not exist."""
        service, _, operation = name.partition("/operations/")
        if service != self.service or not ID.fullmatch(operation):
            raise NotFound("operation", name)
        if not await asyncio.to_thread(self._is_visible, operation):
            raise deny_names(current_caller())
        return operation

    def _check_room(self) -> None:
        waiting = self._ledger.unfinished()
        if len(waiting) >= WAITING_LIMIT:
            raise Overloaded(f"{len(waiting)} operations wait already, the limit is {WAITING_LIMIT}", retry_after_s=60)
        tenant = current_caller().tenant
        if tenant and sum(map(self._is_visible, waiting)) >= self._tenant_limit:
            said = f"tenant {tenant!r} has {self._tenant_limit} operations without outcome, which is its limit"
            raise Overloaded(said, retry_after_s=60)

    def _is_visible(self, operation: str) -> bool:
        """Whether all that the operation was asked to work on is the caller's; a tenant sees no other ones."""
        caller = current_caller()
        if not caller.tenant:
            return True
        try:
            names = list(find_names(self._ledger.record(operation).message()))
        except NotFound:
            return False
        return bool(names) and all(owns(caller, name) for name in names)

    def _page(self, size: int, token: str) -> Page:
        found: list[operations_pb2.Operation] = []
        last = ""
        for operation in (each for each in self._ledger.ids() if not token or each < token):
            if len(found) == size:
                return Page(found, last)
            try:
                if self._is_visible(operation):
                    found.append(self._ledger.describe(operation))
                    last = operation
            except NotFound:  # deleted since, or never quite written
                continue
        return Page(found, "")


def open_operations(service: str, store: Store, settings: Settings) -> Operations:
    """The operations of a service in its own, prefixed store, as the settings have them.

    Raises:
        Unavailable: there is no cluster to run in.
    """
    patience = Patience(keep_s=settings.operations_keep_days * 86_400)
    return Operations(service, store, open_runner(settings), patience, settings.tenant_queue_limit)


def open_runner(settings: Settings) -> Runner:
    """Returns the runner that the settings name.

    Raises:
        Unavailable: there is no cluster to run in.
    """
    if settings.runner == "local":
        return LocalRunner(settings)
    from services.runtime.cluster_runner import ClusterRunner  # noqa: PLC0415 - a second that only a cluster needs

    return ClusterRunner.open(settings)


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc] # it has no types
    """google.longrunning.Operations for every service on this port: a name's first part says whose it is."""

    def __init__(self, operations: Mapping[str, Operations]) -> None:
        self._operations = dict(operations)

    async def ListOperations(  # noqa: N802 - the contract's name
        self, request: operations_pb2.ListOperationsRequest, _: Context
    ) -> operations_pb2.ListOperationsResponse:
        """Lists one service's operations; `name` is the service, such as "codec"."""
        if request.filter:
            raise InvalidArgument("filter", f"must be empty, is {request.filter!r}")
        owner = self._owner(request.name.removesuffix("/operations"))
        page = await owner.list(request.page_size, request.page_token)
        return operations_pb2.ListOperationsResponse(operations=page.operations, next_page_token=page.next_token)

    async def GetOperation(  # noqa: N802
        self, request: operations_pb2.GetOperationRequest, _: Context
    ) -> operations_pb2.Operation:
        """Tells how an operation stands."""
        return await self._owner_of(request.name).get(request.name)

    async def DeleteOperation(  # noqa: N802
        self, request: operations_pb2.DeleteOperationRequest, _: Context
    ) -> Empty:
        """Forgets an operation that has ended."""
        await self._owner_of(request.name).delete(request.name)
        return Empty()

    async def CancelOperation(  # noqa: N802
        self, request: operations_pb2.CancelOperationRequest, _: Context
    ) -> Empty:
        """Asks an operation to stop."""
        await self._owner_of(request.name).cancel(request.name)
        return Empty()

    async def WaitOperation(  # noqa: N802
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        """Answers when the operation has ended, or the timeout or the caller's own deadline is near."""
        limits_s = [request.timeout.ToNanoseconds() / 1e9] if request.HasField("timeout") else []
        left_s = context.time_remaining()
        if left_s is not None:
            limits_s.append(left_s * 0.9)  # so that the answer still arrives in time
        return await self._owner_of(request.name).wait(request.name, min(limits_s, default=None))

    def _owner_of(self, name: str) -> Operations:
        owner = self._operations.get(name.partition("/operations/")[0])
        if owner is None:
            raise NotFound("operation", name)
        return owner

    def _owner(self, service: str) -> Operations:
        if service not in self._operations:
            known = ", ".join(sorted(self._operations))
            raise InvalidArgument("name", f"must be one of {known}, is {service!r}")
        return self._operations[service]


def add_operations_to_server(operations: Mapping[str, Operations], server: grpc.aio.Server) -> None:
    """Serves google.longrunning.Operations for the given services."""
    operations_pb2_grpc.add_OperationsServicer_to_server(OperationsServicer(operations), server)
