"""Serves the page on this machine until Ctrl-C."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from mekiki import AsyncClient
from mekiki.review.app import create_app
from mekiki.review.assignment import Assignment
from mekiki.review.desk import Desk

HOST = "127.0.0.1"


def run_review(
    open_client: Callable[[], AsyncClient], assignment: Assignment, port: int, on_ready: Callable[[str, str], None]
) -> int:
    """Serves until Ctrl-C or SIGTERM, and returns how many decisions were kept.

    Args:
        open_client: gives the client, in the event loop.
        assignment: what is to be looked through.
        port: on 127.0.0.1; 0 for any that is free.
        on_ready: is told the address with its token, and one that opens the page a single time, for a command line that
            others can see; as soon as they answer.

    Raises:
        OSError: the port is taken.
        MekikiError: there is nothing to look through, or no service.
    """
    kept: list[int] = []
    # At Ctrl-C uvicorn ends in good order, and raises it anew once it has.
    with _listen(port) as listening, suppress(KeyboardInterrupt):
        asyncio.run(_serve(open_client, assignment, listening, on_ready, kept))
    return sum(kept)


async def _serve(
    open_client: Callable[[], AsyncClient],
    assignment: Assignment,
    listening: socket.socket,
    on_ready: Callable[[str, str], None],
    kept: list[int],
) -> None:
    token, once = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    async with open_client() as client, Desk(client, assignment) as desk:
        server = make_server(desk, token, once)
        link = f"http://{HOST}:{listening.getsockname()[1]}/?token="
        on_ready(link + token, link + once)
        try:
            await server.serve(sockets=[listening])
        finally:
            kept.append(desk.clerk.saved_count)


def make_server(desk: Desk, token: str, once: str = "") -> uvicorn.Server:
    """The server of a page that answers whoever knows the token, or once whoever knows `once`."""
    config = uvicorn.Config(
        create_app(desk, token, once),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise OSError(f"port {port} of {HOST} cannot be had ({error.strerror}); --port names another") from error
