"""Keeps everybody out but the person whose browser was given the address with its token.

The page listens on this machine alone, which does not keep out its other users, nor other pages in the same browser:
those are stopped by the token, by where a request says it comes from (Origin, Sec-Fetch-Site), and, where a foreign
name was made to point here (DNS rebinding), by the name that it was sent to.
"""

import hashlib
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

HEADERS = {
    # Scripts and styles only from files of ours; nothing that is put into the page can become one.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


class Guard:
    """Stands before an application.

    `once` opens it a single time: whoever sees the command line of the browser that was started with it comes too late.
    """

    def __init__(self, app: ASGIApp, token: str, once: str = "") -> None:
        self._app = app
        self._token = token.encode()
        self._once = once.encode()
        # Cookies know no ports: two reviews in one browser must not take each other's.
        self._cookie = f"mekiki-review-{hashlib.sha256(self._token).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or passes on; whatever is answered says what a browser may do with it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = Headers(scope=scope)
            by_link = self._is_link(scope)
            refusal = self._find_fault(scope, headers, by_link=by_link)
            answer: ASGIApp = PlainTextResponse(refusal, 403) if refusal else self._app
            await answer(scope, receive, self._dress(send, by_link=by_link and not refusal))

    def _find_fault(self, scope: Scope, headers: Headers, *, by_link: bool) -> str:
        host = headers.get("host", "")
        if urlsplit(f"//{host}").hostname not in NAMES:
            return "this page is served to its own machine only\n"
        is_opened = scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
        if not is_opened and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "another page has asked for this\n"
        if scope["method"] not in ("GET", "HEAD") and headers.get("origin") != f"http://{host}":
            return "another page has asked for this\n"
        if not (by_link or self._fits(self._read_cookie(headers))):
            return "open the address that `mekiki review` printed: it holds a token, which is new with every start\n"
        return ""

    def _is_link(self, scope: Scope) -> bool:
        given = _read_query(scope)
        if self._once and secrets.compare_digest(given.encode(), self._once):
            self._once = b""
            return True
        return self._fits(given)

    def _fits(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token)

    def _read_cookie(self, headers: Headers) -> str:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return cookie.value if cookie else ""

    def _dress(self, send: Send, *, by_link: bool) -> Send:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
                if by_link:
                    cookie = f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
                    headers.append("set-cookie", cookie)
            await send(message)

        return dressed


def _read_query(scope: Scope) -> str:
    try:
        fields: dict[str, list[str]] = parse_qs(scope["query_string"].decode("ascii"), max_num_fields=32)
    except ValueError:
        return ""
    return fields.get("token", [""])[0]
