"""The command that opens the page for people: review."""

import getpass
from dataclasses import replace
from typing import Annotated

import typer

from mekiki import AsyncClient, ClientOptions, ItemFilter, find_context
from mekiki.cli.datasets import DatasetName, Labels, Splits
from mekiki.cli.session import DEFAULT_ADDRESS, Address, Json, reporting

EXTRA = "this command serves a page: pip install 'mekiki[review]'"
PORT = 8791
"""Always the same: a browser keeps what could not be sent yet by address and port."""


def review(  # noqa: PLR0913 -- a command's options
    dataset: DatasetName,
    *,
    label: Labels = None,
    split: Splits = None,
    detector: Annotated[str, typer.Option(help="Show what this detector says of every item, too.")] = "",
    classifier: Annotated[str, typer.Option(help="Explains pictures; default the one that proposed the box.")] = "",
    segmenter: Annotated[
        str, typer.Option(help="Show which pixels this segmenter finds; correct and accept them.")
    ] = "",
    name: Annotated[str, typer.Option(help="Your name, kept with the boxes that you draw; default your login.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most items: the most doubtful ones.")] = 5000,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 for any that is free.")] = PORT,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Look through what was proposed: accept, reject, correct, in a browser, by keyboard. Ctrl-C ends it."""
    with reporting(json=json) as output:
        try:
            from mekiki.review.assignment import Assignment  # noqa: PLC0415 -- Starlette and uvicorn may be missing
            from mekiki.review.serve import run_review  # noqa: PLC0415
        except ImportError as error:
            raise ValueError(f"{EXTRA} ({error})") from error
        wanted = ItemFilter(dataset, labels=label or (), splits=split or ())
        assignment = Assignment(wanted, name or find_login(), classifier, detector, limit, segmenter)

        def tell(url: str, url_once: str) -> None:
            output.say(f"{dataset} is shown at {url}\nCtrl-C ends it; every decision is kept as soon as it is made.")
            output.value({"url": url})
            if browser and not json:
                typer.launch(url_once)

        kept = run_review(lambda: open_async_client(address), assignment, port, tell)
        output.say(f"{kept} decisions kept")
        output.value({"decisions": kept})


def find_login() -> str:
    """Whoever is logged in, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "person"


def open_async_client(address: str) -> AsyncClient:
    """A client for an address as the user says it, with the credentials that the context has for it."""
    found = find_context(address)
    options = replace(ClientOptions(), credentials=found.credentials)
    return AsyncClient(found.address, addresses=found.addresses, options=options)
