"""Who the caller is, and whom it trusts."""

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from mekiki._wire.watched import Watched

AUTHORIZATION_KEY = "authorization"

# RFC 6750, section 2.1. Anything else would end up in the text of gRPC's own complaint.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

FilePath = str | os.PathLike[str]


@dataclass(frozen=True)
class Credentials:
    """What a client shows, and which CA's servers it trusts. Files are read again once they have changed.

    Raises:
        OSError: a file cannot be read.
        ValueError: one of a pair is missing, the certificate does not fit its key, or a token is no bearer token.
    """

    ca: FilePath | None = None
    """PEM file of the CA that signed the servers' certificates; without it connections are not encrypted."""

    cert: FilePath | None = None
    """PEM file of the client's own certificate, with its chain; needs `ca` and `key`."""

    key: FilePath | None = None
    """PEM file of the key of `cert`."""

    server_name: str = ""
    """Name that the servers' certificates carry where it is not their address."""

    token: str | Callable[[], str] = field(default="", repr=False)
    """Bearer token, sent with every call, or what gives one at each call."""

    token_file: FilePath | None = None
    """File that holds the bearer token, instead of `token`."""

    _give_token: Callable[[], str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks what can be checked without a server."""
        if (self.cert is None) != (self.key is None) or (self.cert and not self.ca):
            raise ValueError("a client certificate needs all of ca, cert and key")
        if self.token and self.token_file:
            raise ValueError("give token or token_file, not both")
        if self.is_secure:
            self.open()
        object.__setattr__(self, "_give_token", self._choose_token())

    @property
    def is_secure(self) -> bool:
        """Whether connections are TLS."""
        return self.ca is not None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the connection, to be watched."""
        return tuple(Path(path) for path in (self.ca, self.cert, self.key) if path is not None)

    def open(self) -> grpc.ChannelCredentials:
        """What gRPC wants of a secure connection, from the files as they are now."""
        if self.ca is None:
            raise ValueError("a secure connection needs a ca")
        authority = check_authority(Path(self.ca))
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(authority)
        certificate, key = read_pair(Path(self.cert), Path(self.key))
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        token = self._give_token()
        return ((AUTHORIZATION_KEY, f"Bearer {token}"),) if token else ()

    def _choose_token(self) -> Callable[[], str]:
        if self.token_file is not None:
            path = Path(self.token_file)
            return Watched([path], lambda: check_token(path.read_text())).value
        if callable(self.token):
            return self.token
        token = check_token(self.token) if self.token else ""
        return lambda: token


def check_token(text: str) -> str:
    """The token without the space around it; ValueError, without its text, when it is no bearer token."""
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise ValueError("a bearer token must be letters, digits and -._~+/ with = at the end")
    return token


def read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate and its key, PEM.

    Raises:
        OSError: they cannot be read, or do not belong together: one may have been replaced and the other not yet.
    """
    read = certificate.read_bytes(), key.read_bytes()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise OSError(f"{certificate} and {key} are no certificate and its key ({error.reason or 'no PEM'})") from None
    return read


def check_authority(path: Path) -> bytes:
    """The certificates of a CA, PEM; OSError when there is none in the file."""
    read = path.read_bytes()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise OSError(f"{path} holds no certificate of a CA ({error.reason or 'no PEM'})") from None
    return read


def _no_password() -> str:
    """Keys are files that only the service may read; nobody is there to type."""
    return ""
