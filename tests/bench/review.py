"""A person's page: a thousand proposals decided by keys alone in a real Chromium, and whether all of them were kept.

The services and `mekiki review` run as people run them. Keys are pressed as fast as the page takes them, one in three
rejects; at the end the data set is read and compared with what was pressed, item by item. The last items are decided
while nothing can be sent, and the page is reloaded before anything can.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

import mekiki
from mekiki.sample_parts import render_parts
from tests.bench.figures import Figures
from tests.running import ROOT, running_services

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
DATASET, COUNT, RENDERED, SIDE = "parts", 1000, 40, 256
GOAL = 60  # decisions a second
UNSENT = 50
MEGABYTE = 1 << 20
SCROLL = """async () => {
  const sheet = document.querySelector('.sheet'), gaps = [];
  let last = await new Promise(requestAnimationFrame);
  for (let at = 0; at < sheet.scrollHeight; at += 60) {
    sheet.scrollTop = at;
    const now = await new Promise(requestAnimationFrame);
    gaps.push(now - last);
    last = now;
  }
  sheet.scrollTop = 0;
  return gaps.sort((a, b) => a - b);
}"""


def main(count: int = COUNT) -> None:
    """Measures, prints and writes build/bench/review.json."""
    from playwright.sync_api import sync_playwright

    figures = Figures("review")
    with tempfile.TemporaryDirectory() as name, running_services(Path(name), {}) as running:
        client = mekiki.Client(running.address)
        fill(client, Path(name) / "parts", count)
        with sync_playwright() as playwright, reviewing(running.address, DATASET) as (url, server):
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
            page = open_page(chromium, url)
            add_scrolling(figures, page)
            add_decisions(figures, client, page, count)
            add_reload(figures, client, page)
            figures.add("resident memory of `mekiki review`", server.memory_info().rss / MEGABYTE, "MB")
            chromium.close()
        client.close()
    figures.finish()


def fill(client: mekiki.Client, folder: Path, count: int) -> None:
    """A data set of parts, each with a proposal; the first is the most doubtful, and so on."""
    render_parts(folder, count=RENDERED, seed=1, size=SIDE)
    parts = [mekiki_pixels(path) for path in sorted(folder.glob("t*/*/*.png"))]
    client.codec.create_dataset(DATASET)

    def items() -> Iterator[mekiki.NewItem]:
        for number in range(count):
            pixels = np.roll(parts[number % RENDERED], 7 * (number // RENDERED), axis=1)
            proposal = mekiki.Annotation(mekiki.Box(40, 60, 200, 190), "screw", number / count, "boxfit/exact")
            yield mekiki.NewItem(f"{number:04}", pixels, labels=["screw"], annotations=[proposal])

    if failed := [answer.error for answer in client.codec.append_items(DATASET, items()) if answer.error]:
        raise failed[0]


def mekiki_pixels(path: Path) -> np.ndarray:
    """An image's pixels, as they are."""
    from PIL import Image

    return np.asarray(Image.open(path))


@contextmanager
def reviewing(address: str, dataset: str, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """`mekiki review` as a process; its address with the token."""
    command = [sys.executable, "-m", "mekiki.cli", "review", dataset, "--address", address, "--port", "0", "--json"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients/python'}"}
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield json.loads(process.stdout.readline())["url"], psutil.Process(process.pid)
        finally:
            process.terminate()


def open_page(chromium, url: str):
    """The page, with the contact sheet shown."""
    page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.goto(url)
    page.wait_for_selector(".cell >> nth=20")
    return page


def add_scrolling(figures: Figures, page) -> None:
    """How long frames take while all of the contact sheet scrolls by."""
    gaps = page.evaluate(SCROLL)
    figures.add("scrolling past all items: median frame", gaps[len(gaps) // 2], "ms")
    figures.add("scrolling past all items: 95th percentile of frames", gaps[int(0.95 * len(gaps))], "ms")


def wait_until_kept(page) -> None:
    page.wait_for_selector('.sync[data-state="kept"][data-unsent="0"]', timeout=600_000)


def add_decisions(figures: Figures, client: mekiki.Client, page, count: int) -> None:
    """All but the last few items, by keys; then what the data set holds."""
    page.keyboard.press("Enter")
    decided = count - UNSENT
    start = time.perf_counter()
    for number in range(decided):
        page.keyboard.press(expected_key(number))
    pressed = time.perf_counter()
    wait_until_kept(page)
    kept = time.perf_counter()
    figures.add("keys taken by the page", decided / (pressed - start), "decisions/s")
    figures.add("decisions accepted by the server", decided / (kept - start), "decisions/s", GOAL)
    figures.add("decisions made", decided, "")
    figures.add("decisions lost or changed", count_wrong(client, range(decided)), "", 0, "lower")


def add_reload(figures: Figures, client: mekiki.Client, page) -> None:
    """The last items, decided while nothing can be sent, and a reload before anything can."""
    page.route("**/api/decisions", lambda route: route.abort())
    numbers = range(int(page.inner_text(".facts h1")), int(page.inner_text(".facts h1")) + UNSENT)
    for number in numbers:
        page.keyboard.press(expected_key(number))
    page.wait_for_selector('.sync[data-state="waiting"]')
    page.reload()
    page.wait_for_selector('.sync[data-state="waiting"]')
    page.unroute("**/api/decisions")
    wait_until_kept(page)
    figures.add("decisions unsent at a reload", len(numbers), "")
    figures.add("of these lost or changed", count_wrong(client, numbers), "", 0, "lower")


def expected_key(number: int) -> str:
    """One in three is rejected."""
    return "r" if number % 3 == 2 else "a"


def count_wrong(client: mekiki.Client, numbers: range) -> int:
    """Items that do not carry what was pressed."""
    states = {"a": "accepted", "r": "rejected"}
    reads = client.codec.read_items(DATASET, metadata_only=True)
    kept = {read.item.item_id: [str(each.state) for each in read.item.annotations] for read in reads}
    return sum(kept[f"{number:04}"] != [states[expected_key(number)]] for number in numbers)


if __name__ == "__main__":
    main()
