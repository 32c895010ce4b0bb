"""From a bearer token to a caller: JWTs that a key of a JWKS file has signed, and tokens whose hashes a file lists.

Both files are read again once they have changed. What is wrong with a token is told to nobody in detail.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import jwt
from annotated_types import Len
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.types import StringConstraints

from mekiki._wire.watched import Watched
from services.runtime.caller import NOBODY, Caller
from services.runtime.config import Settings
from services.runtime.errors import Unauthenticated
from services.runtime.logs import get_logger
from services.runtime.roles import Role, read_role
from services.runtime.tenants import TENANT

AUTHORIZATION_KEY = "authorization"
LEEWAY_S = 10
"""How far two machines' clocks may be apart."""

# One algorithm a kind of key, chosen by our file and never by the token (RFC 8725, section 3.1).
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}

Metadata = Iterable[tuple[str, str | bytes]]


class StaticToken(BaseModel):
    """A line of the file of hashed tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Of the token, hexadecimal."""
    subject: Annotated[str, Len(1, 255)]
    roles: list[str]
    tenant: str | None = None
    unlimited: bool = False


class Authenticator:
    """Tells who shows a token. `required` is False when neither file is configured: then everybody may do everything.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged.
    """

    def __init__(self, settings: Settings) -> None:
        self._audience = settings.auth_audience
        self._issuer = settings.auth_issuer or None
        self._keys = _watch(settings.auth_jwks, read_keys)
        self._tokens = _watch(settings.auth_tokens, read_tokens)
        self.required = self._keys is not None or self._tokens is not None

    def identify(self, metadata: Metadata) -> Caller:
        """Who calls; NOBODY without a token.

        Raises:
            Unauthenticated: the token is not good.
        """
        shown = [value for key, value in metadata if key == AUTHORIZATION_KEY]
        if not shown:
            return NOBODY
        scheme, _, token = str(shown[0]).partition(" ")
        if len(shown) > 1 or scheme.lower() != "bearer" or not token:
            raise Unauthenticated("TOKEN_INVALID", "the call must carry one authorization: Bearer and a token")
        caller = self._match(token) or self._verify(token)
        if caller is None:
            raise Unauthenticated("TOKEN_INVALID", "the token is not valid here")
        return caller

    def _match(self, token: str) -> Caller | None:
        """The caller of a listed token. All are compared, each in constant time."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        listed = self._tokens.value() if self._tokens else ()
        found = [each for each in listed if hmac.compare_digest(each.sha256, digest)]
        if not found:
            return None
        static = found[0]
        return Caller(static.subject, read_role(static.roles), static.tenant or "", static.unlimited, token)

    def _verify(self, token: str) -> Caller | None:
        """The caller of a JWT; None for anything that is not a good one."""
        if self._keys is None:
            return None
        try:
            key = _choose_key(self._keys.value(), jwt.get_unverified_header(token).get("kid"))
            return None if key is None else _to_caller(self._decode(token, key), token)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("TOKEN_EXPIRED", "the token has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            return None

    def _decode(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[_ALGORITHMS[str(key.key_type)]],
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_S,
            options={"require": ["exp", "aud", "sub"]},
        )
        return claims


def read_keys(text: str) -> dict[str | None, jwt.PyJWK]:
    """The RSA and EC (P-256) public keys of a JWKS file (RFC 7517) by their id; ValueError when there is none."""
    try:
        fit = [data for data in json.loads(text)["keys"] if _is_fit(data)]
        keys = {data.get("kid"): jwt.PyJWK(data, _ALGORITHMS[data["kty"]]) for data in fit}
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it is no JWKS ({type(error).__name__})") from None
    if not keys:
        raise ValueError("it has no RSA or EC key to verify RS256 or ES256 with")
    return keys


def _is_fit(data: Mapping[str, Any]) -> bool:
    """Whether it is a key to verify RS256 or ES256 with; a file may hold others for other purposes."""
    algorithm = _ALGORITHMS.get(data["kty"])
    curve_fits = data["kty"] != "EC" or data["crv"] == "P-256"
    return algorithm is not None and data.get("alg", algorithm) == algorithm and curve_fits and data.get("use") != "enc"


def read_tokens(text: str) -> tuple[StaticToken, ...]:
    """The entries of a file of hashed tokens; ValueError, without what is in it, when it is damaged."""
    try:
        tokens = TypeAdapter(list[StaticToken]).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if any(token.tenant is not None and not TENANT.fullmatch(token.tenant) for token in tokens):
        raise ValueError(f"a tenant must match {TENANT.pattern}")
    if any(read_role([role]) is Role.KNOWN for token in tokens for role in token.roles):
        raise ValueError("a role must be line, engineer or admin")
    return tuple(tokens)


def _to_caller(claims: Mapping[str, Any], token: str) -> Caller | None:
    """A tenant that is there and is none lets nobody in: it must not count as "all names"."""
    tenant = claims.get("tenant", "")
    if not isinstance(tenant, str) or ("tenant" in claims and not TENANT.fullmatch(tenant)):
        return None
    return Caller(str(claims["sub"]), read_role(claims.get("roles")), tenant, token=token)


def _choose_key(keys: Mapping[str | None, jwt.PyJWK], kid: str | None) -> jwt.PyJWK | None:
    """The key that the token names; a token that names none fits a file with one key only."""
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    return keys.get(kid)


def _watch(path: Path | None, read: Any) -> Watched[Any] | None:  # noqa: ANN401 - two kinds of file
    if path is None:
        return None

    def read_file() -> Any:  # noqa: ANN401
        try:
            return read(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    return Watched([path], read_file, _warn)


def _warn(failure: Exception) -> None:
    get_logger().error("changed file cannot be used, the last good one stays", error=str(failure))
