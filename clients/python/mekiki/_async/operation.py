"""Long work: started by one call, watched and awaited by others."""

from typing import Generic, TypeVar

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from mekiki import errors
from mekiki._async.funnel import Funnel
from mekiki._values.outcome import outcome_of
from mekiki._values.progress import Progress
from mekiki._wire import asynchronous as wire
from mekiki._wire.patience import Patience
from mekiki.types.v1 import types_pb2

Result = TypeVar("Result")

WAIT_S = 20.0
"""The service is asked to wait this long for the end of an operation before it answers that it is not there yet."""

GRACE_S = 15.0
"""How much longer than that its answer may take."""

LEAST_PAUSE_S = 0.1
"""Between two such questions."""


class AsyncOperation(Generic[Result]):
    """Long work under way in a service; it goes on, and is found again by its name, whatever happens to this object."""

    def __init__(
        self,
        funnel: Funnel,
        stub: operations_pb2_grpc.OperationsStub,
        record: operations_pb2.Operation,
    ) -> None:
        self._funnel = funnel
        self._stub = stub
        self._record = record

    @property
    def name(self) -> str:
        """Its name, unique in the installation, such as "codec/operations/..."."""
        return str(self._record.name)

    @property
    def record(self) -> operations_pb2.Operation:
        """What was last heard of it."""
        return self._record

    @property
    def seen(self) -> Progress:
        """How far it was when last heard of; asks nobody."""
        metadata = types_pb2.OperationMetadata()
        self._record.metadata.Unpack(metadata)
        return Progress.from_proto(metadata)

    async def progress(self) -> Progress:
        """How far it is."""
        await self._refresh()
        return self.seen

    async def done(self) -> bool:
        """Whether it has ended, well or not."""
        if not self._record.done:
            await self._refresh()
        return bool(self._record.done)

    async def cancel(self) -> None:
        """Asks it to stop; `result` then raises Cancelled, unless it was quicker."""
        request = operations_pb2.CancelOperationRequest(name=self.name)
        await self._funnel.unary(self._stub.CancelOperation, request, None)

    async def wait(self, timeout_s: float) -> bool:
        """Waits at most `timeout_s` for its end; whether it has ended."""
        patience = Patience(timeout_s)
        while not self._record.done and not patience.is_over():
            pause_s = min(WAIT_S, patience.remaining_s())
            request = operations_pb2.WaitOperationRequest(name=self.name, timeout=_duration(pause_s))
            self._record = await self._funnel.unary(self._stub.WaitOperation, request, pause_s + GRACE_S)
            if not self._record.done:  # a server that drains answers at once: do not ask in a circle
                await wire.sleep(min(LEAST_PAUSE_S, patience.remaining_s()))
        return bool(self._record.done)

    async def result(self, timeout_s: float | None = None) -> Result:
        """Its result, waited for as long as it takes, or at most `timeout_s`.

        Raises:
            DeadlineExceeded: it had not ended by then; it goes on.
            MekikiError: it failed; Cancelled, when it was cancelled.
        """
        if not await self.wait(float("inf") if timeout_s is None else timeout_s):
            raise errors.DeadlineExceeded(f"{self.name} had not ended after {timeout_s} s; it goes on")
        if self._record.HasField("error"):
            raise errors.from_status(self._record.error)
        result: Result = outcome_of(self._record)
        return result

    async def _refresh(self) -> None:
        request = operations_pb2.GetOperationRequest(name=self.name)
        self._record = await self._funnel.unary(self._stub.GetOperation, request, None)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(seconds * 1e9))
    return duration
