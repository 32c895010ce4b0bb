"""What every command begins and ends with: a client, somewhere to write, and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, TypeVar

import typer

from mekiki import Client, ClientOptions, MekikiError, Operation, find_context
from mekiki.cli.codes import ExitCode, code_of
from mekiki.cli.output import Output

Address = Annotated[
    str,
    typer.Option(
        "--address",
        help="host:port of the services, or codec=host:port,... "
        "[default: MEKIKI_ADDRESS, or the current context's, or 127.0.0.1:8080]",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON value a line on standard output, nothing else there.")]
DEFAULT_ADDRESS = ""  # the environment's or the context's
DEFAULT_OPTIONS = ClientOptions()
LOOK_S = 0.5

Result = TypeVar("Result")


@contextmanager
def reporting(*, json: bool) -> Iterator[Output]:
    """Gives a command its output, and turns what it raises into the exit code for it."""
    output = Output(json=json)
    try:
        yield output
    except MekikiError as error:
        output.fail(error)
        raise typer.Exit(code_of(error)) from None
    except (OSError, ValueError) as error:
        output.fail(error)
        raise typer.Exit(ExitCode.USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


@contextmanager
def session(address: str, *, json: bool, options: ClientOptions = DEFAULT_OPTIONS) -> Iterator[tuple[Client, Output]]:
    """`reporting` with a client."""
    with reporting(json=json) as output, open_client(address, options=options) as client:
        yield client, output


def open_client(address: str, *, options: ClientOptions = DEFAULT_OPTIONS) -> Client:
    """A client for an address as the user says it, with the credentials that the context has for it."""
    found = find_context(address)
    options = replace(options, credentials=found.credentials)
    return Client(found.address, addresses=found.addresses, options=options)


def follow(operation: Operation[Result], output: Output, title: str) -> Result:
    """The result of long work, waited for behind a progress bar. Ctrl-C leaves the work alone and says its name."""
    try:
        with output.bar(title) as bar:
            while not operation.wait(LOOK_S):
                seen = operation.seen
                bar.show(seen.done, seen.total, f"{title}: {seen.phase}" if seen.phase else title)
        return operation.result()
    except KeyboardInterrupt:
        output.warn(f"{operation.name} goes on; `mekiki ops wait` or `mekiki ops cancel` takes its name")
        raise
