"""The page's requests: convert, delegate, convert."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mekiki import MekikiError, errors
from mekiki.review.desk import Desk
from mekiki.review.guard import Guard
from mekiki.review.messages import read_decisions, write_error, write_item
from mekiki.review.pictures import Picture

STATIC = Path(__file__).parent / "static"
MOST_BYTES = 4 << 20
"""Of a message from the page."""
KEPT = "private, max-age=86400, immutable"
"""An item's pixels never change; the address of a picture holds their SHA-256."""

STATUS: dict[type[MekikiError], int] = {
    errors.InvalidArgument: 422,
    errors.NotFound: 404,
    errors.FailedPrecondition: 409,
    errors.Conflict: 409,
    errors.Overloaded: 503,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.PermissionDenied: 403,
    errors.Unauthenticated: 403,
}


def create_app(desk: Desk, token: str, once: str = "") -> Starlette:
    """The application; `token` is what its visitors must know, or once `once`."""
    page = _Page(desk)
    routes = [
        Route("/", page.open),
        Route("/api/review", page.describe),
        Route("/api/items", page.list_items),
        Route("/api/item", page.get_item),
        Route("/api/decisions", page.decide, methods=["POST"]),
        Route("/api/verdicts", page.list_verdicts),
        Route("/api/verdict", page.judge),
        Route("/api/thumbnail", page.show_thumbnail),
        Route("/api/picture", page.show_picture),
        Route("/api/heat", page.show_heat),
        Route("/api/segments", page.segment),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token, once=once)],
        exception_handlers={MekikiError: _tell},
    )


class _Page:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def open(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-store"})

    async def describe(self, _: Request) -> Response:
        assignment = self._desk.assignment
        told = {
            "dataset": assignment.items.dataset,
            "reviewer": assignment.reviewer,
            "detector": assignment.detector,
            "classifier": assignment.classifier,
            "segmenter": assignment.segmenter,
            "segmented": self._desk.segmented,
            "labels": await self._desk.list_labels(),
        }
        return JSONResponse(told)

    async def list_items(self, request: Request) -> Response:
        """All of them, or nothing where the data set is still of the version that the page has."""
        version = await self._desk.read_version()
        if request.query_params.get("version") == str(version):
            return Response(status_code=204)
        items, total = await self._desk.read_items()
        return JSONResponse({"version": version, "total": total, "items": [write_item(item) for item in items]})

    async def get_item(self, request: Request) -> Response:
        return JSONResponse(await self._desk.read_item(_read_id(request)))

    async def decide(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise errors.InvalidArgument("the body must be application/json", field="body")
        decisions = read_decisions(await _read_body(request))
        return JSONResponse({"outcomes": await self._desk.clerk.keep(decisions)})

    async def list_verdicts(self, request: Request) -> Response:
        told = self._desk.verdicts
        if told is None:
            return JSONResponse({"verdicts": [], "total": 0, "failure": ""})
        since = request.query_params.get("since", "0")
        verdicts = told.list_since(int(since) if since.isascii() and since.isdigit() and len(since) < 10 else 0)
        return JSONResponse({"verdicts": verdicts, "total": told.total, "failure": told.failure})

    async def judge(self, request: Request) -> Response:
        judge = self._desk.judge
        if judge is None:
            raise errors.FailedPrecondition("the page was opened without --detector", reason="NO_DETECTOR")
        return JSONResponse(await judge.judge_again(_read_id(request)))

    async def show_thumbnail(self, request: Request) -> Response:
        return _show(await self._desk.thumbnails.find(_read_id(request)), KEPT)

    async def show_picture(self, request: Request) -> Response:
        return _show(await self._desk.pictures.find(_read_id(request)), KEPT)

    async def segment(self, request: Request) -> Response:
        return JSONResponse(await self._desk.masks.segment(_read_id(request)))

    async def show_heat(self, request: Request) -> Response:
        asked, item_id = request.query_params, _read_id(request)
        if asked.get("of") == "anomaly":
            return _show(await self._desk.show_anomaly(item_id), "no-store")
        return _show(await self._desk.explain(item_id, asked.get("label", ""), asked.get("source", "")), "no-store")


def _read_id(request: Request) -> str:
    item_id = request.query_params.get("id", "")
    if not 1 <= len(item_id.encode()) <= 255:
        raise errors.InvalidArgument(f"id: must have 1 to 255 bytes, has {len(item_id.encode())}", field="id")
    return item_id


async def _read_body(request: Request) -> bytes:
    """The body; a page's own messages are far smaller than what is refused."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise errors.InvalidArgument(f"the body must have at most {MOST_BYTES} bytes", field="body")
    except ClientDisconnect:
        raise errors.Cancelled("the page left") from None
    return bytes(body)


def _show(picture: Picture, cache: str) -> Response:
    return Response(picture.data, media_type=picture.media_type, headers={"cache-control": cache})


async def _tell(_: Request, error: Exception) -> Response:
    """Errors of the services as they said them; anything else is none of the page's business."""
    if not isinstance(error, MekikiError):
        raise error
    return JSONResponse(write_error(error), next((STATUS[kind] for kind in STATUS if isinstance(error, kind)), 502))
