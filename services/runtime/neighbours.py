"""How the service next door is called: over TLS where this one has it, on behalf of whom, and in which trace."""

import functools
import uuid
from collections.abc import Callable
from pathlib import Path

import structlog

from mekiki._wire.credentials import Credentials
from mekiki._wire.policy import ClientOptions, RetryPolicy
from services.runtime.caller import current_token
from services.runtime.config import Settings
from services.runtime.traces import current_place, surround_call

PERSISTENT = 80
"""Attempts of a job's call, five minutes' worth: a service next door that starts anew costs no hours of work."""


def neighbour_options(settings: Settings) -> ClientOptions:
    """For a server: the caller's own token goes along, so that what it may not do here it may not do there either."""
    return ClientOptions(
        credentials=_open_credentials(settings, token=current_token),
        request_id=_current_request_id,
        around=surround_call,
    )


def worker_options(settings: Settings) -> ClientOptions:
    """For a job: the caller may be long gone, so it shows the service's own token.

    It touches what the request names, and whether the caller may do so was checked when the request came. Its calls
    belong to the trace of whoever asks for these options, whatever thread they are made in.
    """
    return ClientOptions(
        credentials=_open_credentials(settings, token_file=settings.service_token_file),
        retry=RetryPolicy(attempts=PERSISTENT),
        around=functools.partial(surround_call, place=current_place()),
    )


def _open_credentials(
    settings: Settings, token: str | Callable[[], str] = "", token_file: Path | None = None
) -> Credentials:
    authority = settings.tls_ca or settings.tls_client_ca
    return Credentials(
        ca=authority,
        cert=settings.tls_cert if authority else None,
        key=settings.tls_key if authority else None,
        server_name=settings.tls_server_name,
        token=token,
        token_file=token_file,
    )


def _current_request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id") or uuid.uuid4().hex)
