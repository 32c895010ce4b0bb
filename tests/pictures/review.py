"""Makes docs/images/review-*.webp: the review page on sample parts. `python -m tests.pictures.review`; minutes.

Weights as MEKIKI_WEIGHTS_DIR has them, else what the services make do with.
"""

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import mekiki
from mekiki.sample_parts import render_kinds, render_parts
from tests.bench.review import ARGUMENTS, CHROMIUM, reviewing
from tests.conftest import ROOT
from tests.running import running_services

OUT = ROOT / "docs" / "images"
KEPT = '.sync[data-state="kept"][data-unsent="0"]'


def main() -> None:
    """Fills data sets, opens pages, takes pictures."""
    from playwright.sync_api import sync_playwright

    OUT.mkdir(parents=True, exist_ok=True)
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("MEKIKI_WEIGHTS")}
    with tempfile.TemporaryDirectory() as name, running_services(Path(name), passed_on) as running:
        with mekiki.Client(running.address) as client:
            annotate_kinds(client, Path(name) / "kinds")
            judge_screws(client, Path(name) / "screws")
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())

            def open_page(url: str):
                page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
                page.goto(url)
                page.wait_for_selector(".cell >> nth=10")
                return page

            aiko, ben = (reviewing(running.address, "kinds", "--name", person) for person in ("Aiko", "Ben"))
            with aiko as (url, _), ben as (other, _):
                show_boxes(open_page, url, other)
            with reviewing(running.address, "kinds", "--segmenter", "outlines") as (url, _):
                show_mask(open_page(url))
            with reviewing(running.address, "screws", "--detector", "screws") as (url, _):
                show_verdicts(open_page(url))
            chromium.close()


def annotate_kinds(client: mekiki.Client, folder: Path) -> None:
    """Screws, nuts and washers with boxes and a segmenter from their labels alone."""
    render_kinds(folder, count=84, seed=4, size=384)
    paths = sorted((folder / "images").rglob("*.png"))
    items = [mekiki.NewItem("/".join(path.parts[-2:]), path, labels=[path.parent.name]) for path in paths]
    client.codec.create_dataset("kinds")
    list(client.codec.append_items("kinds", items))
    client.saliency.train_classifier("kinds", "kinds").result()
    client.boxfit.annotate_dataset("kinds", "kinds", use_item_labels=True, skip_labels=["empty"]).result()
    client.saliency.train_segmenter("outlines", "kinds", normal_labels=["empty"]).result()


def judge_screws(client: mekiki.Client, folder: Path) -> None:
    """A detector of screws that has seen few normals, so that some of the others alarm it."""
    render_parts(folder, count=100, seed=3, kinds=("screw",), size=384)
    paths = sorted(folder.glob("t*/*/*.png"))
    items = [
        mekiki.NewItem("/".join(path.parts[-3:]), path, labels=[path.parent.name], split=path.parts[-3])
        for path in paths
    ]
    client.codec.create_dataset("screws")
    list(client.codec.append_items("screws", items))
    contrast = mekiki.EncodingOptions(background=mekiki.BackgroundRemoval.CONTRAST)
    client.codec.encode_dataset("screws", options=contrast).result()
    normals = mekiki.ItemFilter("screws", splits=["train"], form=mekiki.ItemForm.PREPARED)
    client.anomaly.train_detector("screws", normals).result()
    names = [read.item.item_id for read in client.codec.read_items(normals, metadata_only=True)]
    enrolled = [mekiki.EnrolledItem(each, mekiki.ItemRef("screws", each, mekiki.ItemForm.PREPARED)) for each in names]
    client.anomaly.enroll_items("screws", enrolled)
    client.anomaly.calibrate_detector("screws", normals, false_alarm_rate=0.1).result()


def show_boxes(open_page: Callable, url: str, other: str) -> None:
    """The contact sheet, one image, and a conflict."""
    page, somebody = open_page(url), open_page(other)
    for key in "aaraara":
        page.keyboard.press(key)
    page.wait_for_selector(KEPT)
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(1500)
    save(page, "review-sheet")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.wait_for_selector(".picture.sharp")
    page.wait_for_timeout(500)
    save(page, "review-image")
    somebody.keyboard.press("Enter")
    somebody.keyboard.press("b")
    somebody.wait_for_selector(".conflicts:visible")
    somebody.keyboard.press("c")
    somebody.wait_for_timeout(800)
    save(somebody, "review-conflict")


def show_mask(page) -> None:
    """What a segmenter finds, with strokes of a brush on it."""
    page.keyboard.press("Enter")
    page.wait_for_function("() => { const mask = document.querySelector('.mask'); return mask && !mask.hidden; }")
    page.keyboard.press("p")
    box = page.locator(".mask").bounding_box()
    on_the_nut, off_it = (0.27, 0.36, 0.36, None), (0.42, 0.58, 0.1, "Alt")
    for left, right, height, held in (on_the_nut, off_it):
        if held:
            page.keyboard.down(held)
        page.mouse.move(box["x"] + left * box["width"], box["y"] + height * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + right * box["width"], box["y"] + height * box["height"], steps=8)
        page.mouse.up()
        if held:
            page.keyboard.up(held)
    page.wait_for_selector(KEPT)
    save(page, "review-mask")


def show_verdicts(page) -> None:
    """The alarms, and where one part differs from the normals."""
    page.wait_for_function("() => document.querySelector('.count')?.textContent.includes('judging') === false")
    page.wait_for_timeout(2500)
    save(page, "review-alarms")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter", "h"):
        page.keyboard.press(key)
    page.wait_for_function("() => document.querySelector('.heat')?.naturalWidth > 0")
    page.wait_for_timeout(500)
    save(page, "review-alarm")


def save(page, name: str) -> None:
    """The page as a small file."""
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(OUT / f"{name}.webp", quality=82, method=6)


if __name__ == "__main__":
    main()
