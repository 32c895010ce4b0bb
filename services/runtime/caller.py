"""Who is calling: known from the start of a call to its end, wherever its work is done."""

from contextvars import ContextVar
from dataclasses import dataclass, field

from services.runtime.roles import Role


@dataclass(frozen=True)
class Caller:
    """Who calls, as its token says."""

    subject: str
    """The person, line or service; empty when nobody asks for tokens."""
    role: Role
    tenant: str = ""
    """The names it may see and touch are this one and those that begin with it and a dot; empty for all names."""
    unlimited: bool = False
    """Whether rate limits pass it by: a job must not fail for want of patience."""
    token: str = field(default="", repr=False)
    """What it showed, to be shown to the service next door."""


ANYBODY = Caller("", Role.ADMIN)
"""The caller where nobody asks for tokens."""

NOBODY = Caller("", Role.NOBODY)
"""A caller without a token, where tokens are asked for."""

_CURRENT: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def set_caller(caller: Caller) -> None:
    """Says who calls, for the rest of this call's context."""
    _CURRENT.set(caller)


def current_caller() -> Caller:
    """Returns who calls."""
    return _CURRENT.get()


def current_token() -> str:
    """Returns the token of who calls; empty when it showed none."""
    return _CURRENT.get().token
