"""Where every call passes: who calls, may it call this, with these names, and this often; and what it changed.

`admit` needs the headers alone, so that whoever is not let in cannot make the service read a message; `Visit.check`
looks at each message: of a unary call, and every frame of a stream.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from services.runtime.audit import Change, write_change
from services.runtime.auth import Authenticator, Metadata
from services.runtime.caller import ANYBODY, Caller
from services.runtime.config import Settings
from services.runtime.errors import FailedPrecondition, Unauthenticated
from services.runtime.frames import FrameGate, response_type_of
from services.runtime.limits import RateLimits
from services.runtime.roles import Role, check_role, rule_of
from services.runtime.tenants import check_names, find_names

Context = grpc.aio.ServicerContext[Any, Any]


class Gate:
    """The rules of one server.

    Raises:
        FailedPrecondition: a file of keys or tokens cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            self._authenticator = Authenticator(settings)
        except (OSError, ValueError) as error:
            raise FailedPrecondition("AUTH_FILE_DAMAGED", str(error)) from error
        self.limits = RateLimits(settings.rate_limit_per_s, settings.rate_limit_burst)

    @property
    def active(self) -> bool:
        """Whether messages are looked at for any other reason than the audit log."""
        return self._authenticator.required or self.limits.active

    def admit(self, rpc: str, metadata: Metadata) -> Caller:
        """Who calls.

        Raises:
            Unauthenticated: it shows no token, or a bad one.
            PermissionDenied: its role does not allow this RPC.
        """
        if not self._authenticator.required or rule_of(rpc).role is Role.NOBODY:
            return ANYBODY
        caller = self._authenticator.identify(metadata)
        if caller.role is Role.NOBODY:
            raise Unauthenticated("TOKEN_MISSING", "the call carries no token")
        check_role(rpc, caller.role)
        return caller


class Visit:
    """One call, as the gate sees it.

    The context is asked at the beginning alone: that of a stream which was cut may be gone from beneath Python before
    the last lines of its handler run, and asking it then ends the process (gRPC 1.85).
    """

    def __init__(self, gate: Gate, rpc: str, request_id: str, caller: Caller | None, context: Context) -> None:
        self.caller = caller
        """None for one that was not let in."""
        self._gate = gate
        self._rpc = rpc
        self._rule = rule_of(rpc)
        self._request_id = request_id
        self._peer = context.peer()
        self._certificate = next(iter(context.auth_context().get("x509_common_name", ())), b"")
        self._resources: dict[str, None] = {}  # in order
        self._frames: int | None = None
        self._frame_errors: int | None = None

    def check(self, message: Message) -> None:
        """Lets a message through.

        Raises:
            PermissionDenied: it has a name in it that is not the caller's.
            Overloaded: the caller calls too often.
        """
        caller = self.caller
        if caller is None or self._rule.role <= Role.KNOWN:
            return
        if not caller.unlimited:
            self._gate.limits.take(f"{self._rpc.split('/')[1]} {caller.subject or _host(self._peer)}")
        if caller.tenant or self._rule.changes:
            names = list(find_names(message))
            self._resources.update(dict.fromkeys(names))
            check_names(caller, names)

    async def pass_frames(
        self, frames: AsyncIterable[Any], answer: Callable[[AsyncIterable[Any]], AsyncIterable[Any]]
    ) -> AsyncIterator[Any]:
        """The answers to a stream: the servicer's, and for a frame that is not let through its own error."""
        if not (self._rule.changes or (self._gate.active and self._rule.role > Role.KNOWN)):
            async for response in answer(frames):
                yield response
            return
        passage = FrameGate(frames, self.check, response_type_of(self._rpc))
        async for response in passage.answers(answer(passage.passed())):
            self._note_frame(failed=response.WhichOneof("result") == "error")
            yield response

    def note(self, message: object) -> None:
        """Remembers what a request or an answer tells of what is changed besides names: an item, an operation."""
        told = _tell(message) if self._rule.changes else ""
        if told:
            self._resources[told] = None

    def _note_frame(self, *, failed: bool) -> None:
        """Counts an answer; the first one of a stream of changes is written down at once."""
        if self._frames is None:
            self.write("BEGUN")
        self._frames = (self._frames or 0) + 1
        self._frame_errors = (self._frame_errors or 0) + failed

    def write(self, outcome: str) -> None:
        """Writes the call into the audit log, if it is one that changes anything."""
        if not self._rule.changes:
            return
        caller = self.caller or Caller("", Role.NOBODY)
        write_change(
            Change(
                subject=caller.subject,
                tenant=caller.tenant,
                peer=self._peer,
                certificate=self._certificate.decode(errors="replace"),
                rpc=self._rpc,
                resources=list(self._resources),
                outcome=outcome,
                request_id=self._request_id,
                frames=self._frames,
                frame_errors=self._frame_errors,
            )
        )


def _host(peer: str) -> str:
    """The other end without its port, which changes with each connection."""
    return peer.rpartition(":")[0]


def _tell(message: object) -> str:
    item = getattr(message, "item", None)
    return str(getattr(message, "name", "") if item is None else item.item_id)
