"""What the review page's server keeps, refuses and shows."""

import asyncio
import io
import json
import os
import signal
import socket
import sys

import grpc
import httpx2
import numpy as np
import pytest
from PIL import Image
from review_house import DATASET, ONCE, SIZE, TOKEN, House, draw_square, propose, reviewing

import mekiki
from mekiki.review.album import Album, Shelf
from mekiki.review.assignment import sort_by_doubt
from mekiki.review.desk import read_classifier
from mekiki.review.messages import read_decisions
from mekiki.review.pictures import Picture, draw_picture, draw_thumbnail, paint_heat
from tests.client.fake_server import FAST
from tests.conftest import ROOT

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e.png"


def visitor(url, token=TOKEN, **headers):
    """Somebody who has opened the page: the cookie is theirs."""
    client = httpx2.AsyncClient(base_url=url, headers={"origin": url, **headers})
    client.params = {}
    return Opened(client, token)


class Opened:
    def __init__(self, client, token):
        self.client, self.token = client, token

    async def __aenter__(self):
        await self.client.__aenter__()
        if self.token:
            assert (await self.client.get("/", params={"token": self.token})).status_code == 200
        return self.client

    async def __aexit__(self, *error):
        await self.client.__aexit__(*error)


def decide(item, **changes):
    boxes = [{**box, **changes} for box in item["annotations"]]
    return {"kind": "edit", "item_id": item["id"], "etag": item["etag"], "annotations": boxes}


async def send(page, *decisions):
    response = await page.post("/api/decisions", json={"decisions": decisions})
    assert response.status_code == 200, response.text
    return response.json()["outcomes"]


async def items_of(page):
    return {item["id"]: item for item in (await page.get("/api/items")).json()["items"]}


async def test_the_most_doubtful_items_come_first(house):
    accepted = [mekiki.Annotation(mekiki.Box(1, 1, 5, 5), "nut", state=mekiki.AnnotationState.ACCEPTED)]
    await house.fill(
        {
            "sure": [propose(0.9)],
            "asked": [propose(0.8, needs_review=True)],
            "bare": [],
            "done": accepted,
            "weak": [propose(0.95), propose(0.1)],
        }
    )
    async with reviewing(house) as url, visitor(url) as page:
        assert list(await items_of(page)) == ["asked", "weak", "sure", "bare", "done"]
    async with reviewing(house, limit=2) as url, visitor(url) as page:
        told = (await page.get("/api/items")).json()
        assert ([item["id"] for item in told["items"]], told["total"]) == (["asked", "weak"], 5)


async def test_a_decision_is_answered_when_codec_holds_it(house):
    await house.fill({"a": [propose(0.4, name="one")]})
    async with reviewing(house) as url, visitor(url) as page:
        outcome = (await send(page, decide((await items_of(page))["a"], state="accepted")))[0]
        (kept,) = await house.boxes("a")
        assert outcome["status"] == "saved"
        assert kept == mekiki.Annotation(**{**vars(propose(0.4, name="one")), "state": "accepted"})
        assert outcome["item"] == (await page.get("/api/item", params={"id": "a"})).json()


async def test_what_a_person_draws_carries_the_persons_name(house):
    await house.fill({"a": []})
    async with reviewing(house, reviewer="Ann <b>") as url, visitor(url) as page:
        item = (await items_of(page))["a"]
        drawn = {"id": "n1", "box": [1, 2, 9, 8], "label": HOSTILE, "score": 1, "source": "", "state": "accepted"}
        item["annotations"] = [drawn | {"needs_review": False}]
        assert (await send(page, decide(item)))[0]["status"] == "saved"
    assert await house.boxes("a") == (
        mekiki.Annotation(
            mekiki.Box(1, 2, 9, 8), HOSTILE, 1.0, "Ann <b>", mekiki.AnnotationState.ACCEPTED, False, "n1"
        ),
    )


async def test_the_second_of_two_people_is_told_and_nothing_is_overwritten(house):
    await house.fill({"a": [propose(0.4)]})
    async with reviewing(house) as url, visitor(url) as ann, visitor(url) as ben:
        seen = (await items_of(ann))["a"]
        assert (await send(ann, decide(seen, state="accepted")))[0]["status"] == "saved"
        outcome = (await send(ben, decide(seen, state="rejected")))[0]
        assert outcome["status"] == "conflict"
        assert [box["state"] for box in outcome["item"]["annotations"]] == ["accepted"]
        assert (await send(ben, decide(outcome["item"], state="rejected")))[0]["status"] == "saved"
    assert await house.states() == {"a": ["rejected"]}


async def test_a_decision_whose_answer_was_lost_may_be_sent_again(house):
    await house.fill({"a": [propose(0.4)]})
    async with reviewing(house) as url, visitor(url) as page:
        decision = decide((await items_of(page))["a"], state="accepted")
        assert [(await send(page, decision))[0]["status"] for _ in range(2)] == ["saved", "saved"]


async def test_many_decisions_travel_together_and_one_bad_one_stays_behind(house):
    await house.fill({f"item-{number}": [propose(0.5)] for number in range(40)})
    async with reviewing(house) as url, visitor(url) as page:
        decisions = [decide(item, state="accepted") for item in (await items_of(page)).values()]
        decisions[3]["annotations"][0]["box"] = [0, 0, 500, 500]
        decisions[4]["item_id"] = "nobody"
        outcomes = await send(page, *decisions)
    assert [outcome["status"] for outcome in outcomes[3:5]] == ["refused", "refused"]
    assert "item.annotations[0].box" in outcomes[3]["field"]
    assert {outcome["status"] for outcome in outcomes[:3] + outcomes[5:]} == {"saved"}
    assert sum(states == ["accepted"] for states in (await house.states()).values()) == 38


async def test_a_service_that_is_away_asks_for_patience(house):
    await house.fill({"a": [propose(0.4)]})
    async with reviewing(house) as url, visitor(url) as page:
        item = (await items_of(page))["a"]

        async def fail(*_, **__):
            raise mekiki.errors.Unavailable("nobody answers")

        house.codec.update_item, kept = fail, house.codec.update_item
        assert (await send(page, decide(item, state="accepted")))[0]["status"] == "later"
        house.codec.update_item = kept
        assert (await send(page, decide(item, state="accepted")))[0]["status"] == "saved"


async def test_a_list_that_has_not_changed_is_not_sent_again(house):
    await house.fill({"a": [propose(0.4)]})
    async with reviewing(house) as url, visitor(url) as page:
        told = (await page.get("/api/items")).json()
        assert (await page.get("/api/items", params={"version": told["version"]})).status_code == 204
        await send(page, decide(told["items"][0], state="accepted"))
        assert (await page.get("/api/items", params={"version": told["version"]})).status_code == 200


async def test_pictures_are_shown_whatever_the_items_are_called(house):
    await house.fill({HOSTILE: [], "b/../c.png": []})
    async with reviewing(house) as url, visitor(url) as page:
        for number, name in enumerate([HOSTILE, "b/../c.png"]):
            exact = await page.get("/api/picture", params={"id": name})
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(exact.content))), draw_square(number))
            small = await page.get("/api/thumbnail", params={"id": name})
            assert small.headers["content-type"] == "image/jpeg"
            assert "immutable" in small.headers["cache-control"]
        assert (await page.get("/api/thumbnail", params={"id": "nobody"})).status_code == 404
        assert (await page.get("/api/picture")).status_code == 422


async def test_a_heat_map_is_asked_of_the_classifier_that_proposed_the_box(house):
    await house.fill({"a": [propose(0.4)]})
    async with reviewing(house) as url, visitor(url) as page:
        asked = {"id": "a", "label": "nut", "source": "boxfit/exact saliency/kinds@2"}
        shown = await page.get("/api/heat", params=asked)
        assert house.saliency.asked == [("kinds", "nut")]
        heat = np.asarray(Image.open(io.BytesIO(shown.content)))
        assert (heat[..., 3] > 0).tolist() == [[True, True, False, False]] * 4
        refused = await page.get("/api/heat", params={"id": "a"})
        assert (refused.status_code, refused.json()["reason"]) == (409, "NO_CLASSIFIER")
    async with reviewing(house, classifier="mine") as url, visitor(url) as page:
        await page.get("/api/heat", params=asked)
        assert house.saliency.asked[-1] == ("mine", "nut")


def test_a_source_names_its_classifier():
    assert read_classifier("boxfit/exact saliency/parts@3") == "parts"
    assert [read_classifier(source) for source in ("", "ann", "imported", "saliency/objects@2")] == [""] * 4


async def test_a_false_alarm_becomes_a_normal_and_can_be_taken_back(house):
    house.anomaly.scores = {"a": 3.0}
    await house.fill({"a": [], "b": []})
    async with reviewing(house, detector="screws") as url, visitor(url) as page:
        while len(told := (await page.get("/api/verdicts")).json()["verdicts"]) < 2:  # noqa: ASYNC110 -- as the page
            await asyncio.sleep(0.01)
        assert {each["item_id"]: each["verdict"] for each in told} == {"a": "anomalous", "b": "normal"}
        assert (await page.get("/api/heat", params={"id": "a", "of": "anomaly"})).headers["content-type"] == "image/png"
        outcomes = await send(page, {"kind": "enrol", "item_id": "a", "category": "m6"})
        assert (outcomes[0]["status"], outcomes[0]["bank_version"], outcomes[0]["is_new"]) == ("saved", 7, True)
        assert house.anomaly.bank == {"a": "m6"}
        assert (await page.get("/api/verdict", params={"id": "a"})).json()["verdict"] == "normal"
        await send(page, {"kind": "forget", "item_id": "a"})
        assert house.anomaly.bank == {}


async def test_without_a_detector_nothing_is_enrolled(house):
    await house.fill({"a": []})
    async with reviewing(house) as url, visitor(url) as page:
        outcome = (await send(page, {"kind": "enrol", "item_id": "a", "category": ""}))[0]
        assert (outcome["status"], outcome["reason"]) == ("refused", "NO_DETECTOR")
        assert (await page.get("/api/verdict", params={"id": "a"})).status_code == 409


async def test_nobody_comes_in_without_the_token(house):
    await house.fill({"a": [propose(0.4)]})
    async with reviewing(house) as url:
        for token in ("", "wrong"):
            async with httpx2.AsyncClient(base_url=url, headers={"origin": url}) as stranger:
                for path in ("/", "/api/items", "/static/main.js", "/api/thumbnail?id=a"):
                    assert (await stranger.get(path, params={"token": token} if token else None)).status_code == 403
                assert (await stranger.post("/api/decisions", json={"decisions": []})).status_code == 403


async def test_what_a_browser_was_started_with_opens_the_page_a_single_time(house):
    await house.fill({"a": []})
    async with reviewing(house) as url:
        async with visitor(url, ONCE) as page:
            assert list(await items_of(page)) == ["a"]
        async with httpx2.AsyncClient(base_url=url) as late:
            assert (await late.get("/", params={"token": ONCE})).status_code == 403
            assert (await late.get("/", params={"token": ""})).status_code == 403


@pytest.mark.parametrize(
    ("headers", "is_served"),
    [
        ({}, True),
        ({"host": "evil.example"}, False),
        ({"host": "evil.example", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1.evil.example:80"}, False),
        ({"host": "localhost:9999", "origin": "http://localhost:9999"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
    ],
)
async def test_other_pages_in_the_same_browser_decide_nothing(house, headers, is_served):
    await house.fill({"a": [propose(0.4)]})
    async with reviewing(house) as url, visitor(url) as page:
        decision = decide((await items_of(page))["a"], state="accepted")
        told = json.dumps({"decisions": [decision]}).encode()
        sent = {"content-type": "application/json", "cookie": "; ".join(f"{k}={v}" for k, v in page.cookies.items())}
        response = await page.post("/api/decisions", content=told, headers=sent | headers)
        assert response.status_code == (200 if is_served else 403)
    assert await house.states() == {"a": ["accepted" if is_served else "proposed"]}


async def test_every_answer_forbids_foreign_scripts(house):
    await house.fill({"a": []})
    async with reviewing(house) as url, visitor(url) as page:
        for path in ("/", "/api/items", "/static/main.js", "/nowhere"):
            policy = (await page.get(path)).headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"decisions": []}',
        b'{"decisions": [1]}',
        b"[" * 100_000,
        json.dumps({"decisions": [{"kind": "drop", "item_id": "a"}]}).encode(),
        json.dumps({"decisions": [{"kind": "edit", "item_id": "a", "etag": "", "annotations": []}]}).encode(),
        json.dumps({"decisions": [{"kind": "enrol", "item_id": "a" * 256, "category": ""}]}).encode(),
        json.dumps({"decisions": [{"kind": "forget", "item_id": "\ud800"}]}).encode(),
        json.dumps({"decisions": [{"kind": "forget", "item_id": "a"}] * 257}).encode(),
    ],
)
def test_a_bad_message_is_refused_by_its_field(body):
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        read_decisions(body)
    assert refused.value.field


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("box", [0, 0, 1]),
        ("box", [0, 0, 1, 1.5]),
        ("box", [0, 0, 1, True]),
        ("box", [0, 0, 1, 1 << 40]),
        ("state", "maybe"),
        ("label", 3),
        ("label", "x" * 256),
        ("score", "high"),
        ("needs_review", 1),
    ],
)
def test_a_bad_box_is_refused_by_its_field(name, value):
    box = {"id": "", "box": [0, 0, 1, 1], "label": "", "score": 1, "source": "", "state": "accepted"}
    told = {"kind": "edit", "item_id": "a", "etag": "1", "annotations": [box | {"needs_review": False, name: value}]}
    with pytest.raises(mekiki.errors.InvalidArgument) as refused:
        read_decisions(json.dumps({"decisions": [told]}).encode())
    assert refused.value.field == f"decisions[0].annotations[0].{name}"


async def test_a_message_without_an_end_is_refused(house):
    await house.fill({"a": []})
    async with reviewing(house) as url, visitor(url) as page:
        huge = b'{"decisions": "' + b"x" * (5 << 20) + b'"}'
        response = await page.post("/api/decisions", content=huge, headers={"content-type": "application/json"})
        assert response.status_code == 422
        plain = await page.post("/api/decisions", content=b"{}", headers={"content-type": "text/plain"})
        assert plain.status_code == 422


def test_a_shelf_keeps_to_its_bytes():
    shelf = Shelf(100)
    for number in range(30):
        shelf.put(str(number), Picture(b"x" * 10, "image/png"))
        shelf.get("0")
    assert shelf.stored_bytes == 100
    assert shelf.get("0") is not None
    assert (shelf.get("1"), shelf.get("29") is not None) == (None, True)


async def test_a_screen_of_pictures_is_one_read(house):
    await house.fill({f"item-{number}": [] for number in range(30)})
    reads = []
    read_items = house.codec.read_items

    def count(items, **options):
        reads.append(len(items.item_ids))
        return read_items(items, **options)

    house.codec.read_items = count
    album = Album(house, DATASET, draw_thumbnail, 1 << 20)
    wanted = [f"item-{number}" for number in range(30)]
    pictures = await asyncio.gather(*(album.find(each) for each in [*wanted, *wanted]))
    assert reads == [30]
    assert pictures[:30] == pictures[30:]
    with pytest.raises(mekiki.errors.NotFound):
        await album.find("nobody")
    await album.close()


async def test_pixels_that_cannot_be_drawn_fail_alone(house):
    await house.fill({"a": [], "b": []})

    def draw(pixels):
        if np.array_equal(pixels, draw_square(0)):
            raise ValueError
        return draw_thumbnail(pixels)

    album = Album(house, DATASET, draw, 1 << 20)
    failed, drawn = await asyncio.gather(album.find("a"), album.find("b"), return_exceptions=True)
    assert isinstance(failed, mekiki.errors.DataLoss)
    assert isinstance(drawn, Picture)
    await album.close()


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_of_pixels_is_shown(shape, dtype):
    pixels = (np.arange(np.prod(shape)).reshape(shape) % 200).astype(dtype)
    for draw in (draw_thumbnail, draw_picture):
        assert Image.open(io.BytesIO(draw(pixels).data)).size == (30, 20)


def test_large_pictures_are_shrunk():
    large = np.zeros((300, 5000), np.uint8)
    assert Image.open(io.BytesIO(draw_picture(large).data)).size == (4096, 246)
    assert Image.open(io.BytesIO(draw_thumbnail(large).data)).width == 256


def test_heat_is_transparent_where_there_is_none():
    heat = np.asarray(Image.open(io.BytesIO(paint_heat(np.array([[0.0, 1.0, 9.0]], np.float32), 0.0, 1.0).data)))
    assert (heat[0, :, 3] == [0, 235, 235]).all()


def test_doubt_is_bounded_and_stable():
    def item(number):
        return mekiki.Item(
            str(number), (), "", "", "", *SIZE, 3, 8, (propose((number % 7) / 10),), "", None, has_mask=False
        )

    found = sort_by_doubt((item(number) for number in range(1000)), 150)
    assert len(found) == 150
    assert [each.annotations[0].score for each in found] == sorted(each.annotations[0].score for each in found)


async def test_the_command_serves_until_it_is_interrupted_and_says_what_was_kept(serve):
    from services.codec.__main__ import OPENING

    address = await serve([OPENING], u2net_home="/nowhere", segment_wait_ms=10)
    async with mekiki.AsyncClient(address) as client:
        await House(client.codec).fill({"a": [propose(0.4)], "b": []})
        command = [sys.executable, "-m", "mekiki.cli", "review", DATASET, "--address", address, "--port", "0", "--json"]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}"}
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        url, _, token = json.loads(await process.stdout.readline())["url"].rpartition("/?token=")
        async with visitor(url, token) as page:
            outcomes = await send(page, decide((await items_of(page))["a"], state="accepted"))
            assert outcomes[0]["status"] == "saved"
        process.send_signal(signal.SIGINT)
        told, _ = await process.communicate()
        assert (json.loads(told), process.returncode) == ({"decisions": 1}, 0)


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 3), (("--detector", "x"), 3), (("--segmenter", "x"), 3), (("--address", "127.0.0.1:1"), 4)],
)
def test_what_is_not_there_cannot_be_reviewed(server, monkeypatch, options, code):
    from typer.testing import CliRunner

    from mekiki.cli.app import app

    def fail(_request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    server.answers |= {"ReadItems": fail, "GetDetector": fail, "GetSegmenter": fail}
    monkeypatch.setattr("mekiki.cli.reviewing.ClientOptions", lambda: FAST)
    arguments = ["review", "parts", "--no-browser", "--port", "0", "--address", server.address, *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert "http" not in result.output


def test_the_command_says_who_segments(monkeypatch):
    from typer.testing import CliRunner

    from mekiki.cli.app import app

    asked = []
    monkeypatch.setattr("mekiki.review.serve.run_review", lambda _, assignment, *__: asked.append(assignment) or 0)
    assert CliRunner().invoke(app, ["review", "screws", "--segmenter", "defects", "--name", "ann"]).exit_code == 0
    (assignment,) = asked
    assert (assignment.items.dataset, assignment.segmenter, assignment.reviewer) == ("screws", "defects", "ann")


def test_a_port_that_is_taken_is_named(server):
    from typer.testing import CliRunner

    from mekiki.cli.app import app

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["review", "parts", "--port", str(port), "--address", server.address])
    assert result.exit_code == 2
    assert f"port {port}" in result.stderr
    assert "--port" in result.stderr
