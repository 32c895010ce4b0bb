"""Where the services are and how to get in, by name: a file of contexts, and the environment, which beats it.

    {"current": "plant", "contexts": {"plant": {"address": "...", "ca": "...", "cert": "...", "key": "...",
                                                "token_file": "..."}}}

It holds no secret, only where the secrets are. Relative paths in it begin at its own folder.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mekiki._values.service import SERVICES
from mekiki._wire.credentials import Credentials

DEFAULT_ADDRESS = "127.0.0.1:8080"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Context:
    """An installation: its address, and the files that open it."""

    address: str = DEFAULT_ADDRESS
    """host:port of the services, or one for each, as `find_context` takes them."""
    ca: str = ""
    """PEM file of the CA of the servers; without it connections are not encrypted."""
    cert: str = ""
    """PEM file of the client's own certificate."""
    key: str = ""
    """PEM file of its key."""
    token_file: str = ""
    """File that holds the bearer token."""

    def credentials(self, token: str = "") -> Credentials:
        """The credentials; a token that is given stands in for the file's.

        Raises:
            OSError: a file cannot be read.
            ValueError: they do not fit together.
        """
        return Credentials(
            ca=self.ca or None,
            cert=self.cert or None,
            key=self.key or None,
            token=token,
            token_file=None if token else self.token_file or None,
        )


@dataclass(frozen=True)
class Contexts:
    """What the file holds."""

    current: str
    """Name of the context that is used; empty for none."""
    contexts: Mapping[str, Context]


@dataclass(frozen=True)
class Found:
    """Where to go, and with what."""

    address: str
    """host:port of all services, or of those that `addresses` does not name; empty where it names them all."""
    addresses: Mapping[str, str]
    """host:port of services that live elsewhere."""
    credentials: Credentials


def contexts_path() -> Path:
    """The file of contexts: MEKIKI_CONTEXT_FILE, or `mekiki/contexts.json` in the user's configuration folder."""
    given = os.environ.get("MEKIKI_CONTEXT_FILE")
    folder = os.environ.get("XDG_CONFIG_HOME")
    home = Path(folder) if folder else Path.home() / ".config"
    return Path(given) if given else home / "mekiki" / "contexts.json"


def find_context(address: str = "") -> Found:
    """Where the services are: `address`, else MEKIKI_ADDRESS, else the current context, else 127.0.0.1:8080.

    Services that do not share a port are named: "codec=a:8080,saliency=b:8080,boxfit=c:8080,anomaly=d:8080"; an address
    without a name among them is that of the others.

    The context is a whole: an address that is not its own gets neither its CA nor its token. MEKIKI_CA, MEKIKI_CERT,
    MEKIKI_KEY, MEKIKI_TOKEN_FILE and MEKIKI_TOKEN beat what the context says.

    Raises:
        OSError: a file cannot be read.
        ValueError: the file of contexts is damaged, the address is none, or the credentials do not fit together.
    """
    known = read_contexts()
    context = known.contexts.get(known.current, Context())
    wanted = address or os.environ.get("MEKIKI_ADDRESS") or context.address
    if wanted != context.address:
        context = Context(wanted)
    given = {name: os.environ[f"MEKIKI_{name.upper()}"] for name in _FILES if os.environ.get(f"MEKIKI_{name.upper()}")}
    context = Context(**(asdict(context) | given))
    shared, named = split_address(context.address)
    return Found(shared, named, context.credentials(os.environ.get("MEKIKI_TOKEN", "")))


def split_address(text: str) -> tuple[str, Mapping[str, str]]:
    """The address of services that have none of their own, and the addresses of those that have.

    Raises:
        ValueError: a name is no service, something is said twice, or a service is left without an address.
    """
    if "=" not in text:  # whatever gRPC takes, such as ipv4:10.0.0.1:8080,10.0.0.2:8080
        return text, {}
    pairs = [part.strip().rpartition("=") for part in text.split(",")]
    named = {name: address for name, _, address in pairs}
    if len(named) < len(pairs) or not all(named.values()):
        raise ValueError(f"an address is host:port, or service=host:port for each, joined by commas; is {text!r}")
    shared = named.pop("", "")
    if unknown := set(named) - set(SERVICES):
        raise ValueError(f"{text!r} names {', '.join(sorted(unknown))}; services are {', '.join(SERVICES)}")
    if not shared and (missing := set(SERVICES) - set(named)):
        raise ValueError(f"{text!r} has no address for {', '.join(sorted(missing))}")
    return shared, named


def read_contexts() -> Contexts:
    """All contexts; none when there is no file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    path = contexts_path()
    try:
        data = json.loads(path.read_bytes())
        contexts = {str(name): _read_context(fields, path.parent) for name, fields in data["contexts"].items()}
        current = str(data["current"])
    except FileNotFoundError:
        return Contexts("", {})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no file of contexts ({type(error).__name__})") from None
    if current and current not in contexts:
        raise ValueError(f"{path} names {current!r} as the current context, and has no such context")
    return Contexts(current, contexts)


def write_contexts(contexts: Contexts) -> None:
    """Replaces the file as a whole; only its owner may read it."""
    path = contexts_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stated = {name: {k: v for k, v in asdict(each).items() if v} for name, each in contexts.contexts.items()}
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.touch(mode=0o600)
    beside.write_text(json.dumps({"current": contexts.current, "contexts": stated}, indent=2) + "\n")
    beside.replace(path)


_FILES = ("ca", "cert", "key", "token_file")


def _read_context(fields: Mapping[str, str], folder: Path) -> Context:
    if not all(isinstance(value, str) for value in fields.values()):
        raise TypeError("all values of a context are strings")
    located = {name: str(folder / fields[name]) for name in _FILES if fields.get(name)}
    return Context(**{**fields, **located})
