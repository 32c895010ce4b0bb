"""People at the review page: each a real Chromium of their own."""

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from review_house import SIZE, TOKEN

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ARGUMENTS += ["--disable-sync", "--no-first-run", "--disable-dev-shm-usage"]

IN_A_BROWSER = [
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser: {CHROMIUM} does not exist"),
    pytest.mark.xdist_group("browser"),
]


@asynccontextmanager
async def launching():
    """The browser that they sit at."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        environment = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, env=environment)
        yield chromium
        await chromium.close()


@dataclass
class Person:
    """Somebody at the page."""

    page: object
    faults: list

    async def press(self, *keys):
        for key in keys:
            await self.page.keyboard.press(key)

    async def until(self, script, argument=None):
        await self.page.wait_for_function(script, arg=argument, timeout=20_000)

    async def until_kept(self):
        await self.page.wait_for_selector('.sync[data-state="kept"][data-unsent="0"]', timeout=20_000)

    async def until_shown(self, item_id):
        await self.page.wait_for_selector(f".facts h1:has-text({item_id!r})")

    async def lose_answers(self):
        """Decisions arrive, and their answers do not, until the route is given up."""

        async def deliver_and_drop(route):
            await route.fetch()
            await route.abort()

        await self.page.route("**/api/decisions", deliver_and_drop)

    async def place(self, x, y):
        """Where on the screen a place of the image is."""
        await self.page.wait_for_selector(".stage .boxes[viewBox]")
        frame = await self.page.locator(".stage .boxes").bounding_box()
        return frame["x"] + x * frame["width"] / SIZE[0], frame["y"] + y * frame["height"] / SIZE[1]

    async def drag(self, start, end, *, key="", button="left"):
        """From one place of the image to another, while a key such as "Shift" is held down."""
        mouse, keyboard = self.page.mouse, self.page.keyboard
        if key:
            await keyboard.down(key)
        await mouse.move(*await self.place(*start))
        await mouse.down(button=button)
        await mouse.move(*await self.place(*[(a + b) / 2 for a, b in zip(start, end, strict=True)]))
        await mouse.move(*await self.place(*end))
        await mouse.up(button=button)
        if key:
            await keyboard.up(key)

    async def stored(self):
        """What waits in this browser's storage."""
        keys = await self.page.evaluate("Object.keys(localStorage)")
        return [key for key in keys if key.startswith("mekiki-review/unsent/")]


@asynccontextmanager
async def sitting(browser, url, cells=1):
    """A person in a browser of their own, before the contact sheet."""
    context = await browser.new_context(viewport={"width": 1200, "height": 800})
    page = await context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    await page.goto(f"{url}/?token={TOKEN}")
    await page.wait_for_selector(f".cell >> nth={cells - 1}")
    yield Person(page, faults)
    assert not faults, faults
    await context.close()
