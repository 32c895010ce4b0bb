"""Commands about contexts: which installation `mekiki` speaks to, and what it shows there."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from mekiki._wire.contexts import NAME, Context, Contexts, contexts_path, read_contexts, split_address, write_contexts
from mekiki.cli.codes import EPILOG
from mekiki.cli.session import Json, reporting

context = typer.Typer(
    no_args_is_help=True, help="Which installation to speak to, and how to get in: list, use, set, delete."
)

ContextName = Annotated[str, typer.Argument(metavar="CONTEXT", help="Name of the context.")]


@context.command("list", epilog=EPILOG)
def list_(*, json: Json = False) -> None:
    """List the contexts; the current one has a star."""
    with reporting(json=json) as output:
        known = read_contexts()
        rows = (("*" if name == known.current else "", name, each.address) for name, each in known.contexts.items())
        output.table(["", "context", "address"], rows)
        for name, each in known.contexts.items():
            output.value({"name": name, "current": name == known.current, **asdict(each)})


@context.command(epilog=EPILOG)
def use(name: ContextName, *, json: Json = False) -> None:
    """Make a context the current one."""
    with reporting(json=json) as output:
        known = read_contexts()
        write_contexts(Contexts(_find(known, name), known.contexts))
        output.say(f"{name}: {known.contexts[name].address} is spoken to from now on")
        output.value({"name": name, "current": True, **asdict(known.contexts[name])})


@context.command("set", epilog=EPILOG)
def set_(
    name: ContextName,
    *,
    address: Annotated[str, typer.Option("--address", help="host:port of the services, or codec=host:port,...")] = "",
    ca: Annotated[Path | None, typer.Option(help="PEM file of the CA of the servers; turns TLS on.")] = None,
    cert: Annotated[Path | None, typer.Option(help="PEM file of the client's own certificate.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of its key.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File that holds the bearer token.")] = None,
    json: Json = False,
) -> None:
    """Make a context or change what is given of one. The first one becomes the current one."""
    with reporting(json=json) as output:
        if not NAME.fullmatch(name):
            raise ValueError(f"a context's name has 1 to 63 letters, digits and ._-, {name!r} does not fit")
        known = read_contexts()
        files = {"ca": ca, "cert": cert, "key": key, "token_file": token_file}
        given = {field: str(path.absolute()) for field, path in files.items() if path is not None}
        changed = replace(known.contexts.get(name, Context()), **({"address": address} if address else {}), **given)
        changed.credentials()  # so that a wrong path is said now
        split_address(changed.address)
        write_contexts(Contexts(known.current or name, {**known.contexts, name: changed}))
        output.say(f"{name}: {changed.address}, in {contexts_path()}")
        output.value({"name": name, "current": name == (known.current or name), **asdict(changed)})


@context.command(epilog=EPILOG)
def delete(name: ContextName, *, json: Json = False) -> None:
    """Forget a context; its files stay."""
    with reporting(json=json) as output:
        known = read_contexts()
        _find(known, name)
        left = {other: each for other, each in known.contexts.items() if other != name}
        write_contexts(Contexts("" if known.current == name else known.current, left))
        output.say(f"{name}: forgotten")
        output.value({"name": name, "deleted": True})


def _find(known: Contexts, name: str) -> str:
    if name not in known.contexts:
        raise ValueError(f"there is no context {name!r}; there is {', '.join(known.contexts) or 'none'}")
    return name
