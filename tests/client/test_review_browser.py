"""The review page as people use it: a real Chromium, a real codec."""

import asyncio
import dataclasses

import pytest
from playwright.async_api import expect
from review_house import DATASET, TOKEN, propose, reviewing
from review_people import IN_A_BROWSER, sitting

import mekiki
from mekiki import AnnotationState, Box

HOSTILE = (
    "<img src=x onerror=window.pwned=1>.png",
    "\"><script>window.pwned=1</script>'`${window.pwned=1}.png",
    "a\u202egnp.exe\u2066.png",
    "שלום/مرحبا.png",
    "very-" + "long" * 61 + ".png",
    "../../etc/passwd?id=1&v=2#%00",
)

pytestmark = IN_A_BROWSER


async def test_hundreds_of_items_are_sorted_by_doubt_and_only_what_is_seen_exists(house, browser):
    await house.fill({f"{number:04}": [propose((number * 37 % 300) / 300)] for number in range(300)})
    async with reviewing(house) as url, sitting(browser, url, cells=20) as ann:
        first = ann.page.locator('.cell[data-item="0000"] .say')
        await expect(first).to_have_text("nut 0 %")
        assert await ann.page.locator(".cell").count() < 100
        await ann.page.evaluate("document.querySelector('.sheet').scrollTop = 1e9")
        await ann.page.wait_for_selector('.cell[data-item="0227"]')  # 227 * 37 % 300 = 299
        assert await ann.page.locator(".cell").count() < 100
        await ann.until("() => [...document.querySelectorAll('.cell img')].every((each) => each.naturalWidth > 0)")


async def test_keys_alone_decide_and_everything_reaches_the_data_set(house, browser):
    await house.fill({name: [propose(number / 10)] for number, name in enumerate("abcde")})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        await ann.until_shown("a")
        await ann.press("a", "r", "n", "a")  # a accepted, b rejected, c passed over, d accepted
        await ann.until_kept()
        await ann.until_shown("e")
        assert await house.states() == {
            "a": ["accepted"], "b": ["rejected"], "c": ["proposed"], "d": ["accepted"], "e": ["proposed"],
        }  # fmt: skip
        await expect(ann.page.locator(".count")).to_contain_text("3 of 5")
        await ann.press("p", "p", "p", "r")  # b was rejected: so it stays; then on to what is open
        await ann.until_shown("c")
        await ann.press("a", "a")
        await ann.until_kept()
        await expect(ann.page.locator(".news")).to_contain_text("Everything is decided")
    assert [states[0] for states in (await house.states()).values()].count("accepted") == 4


async def test_the_contact_sheet_takes_decisions_too(house, browser):
    await house.fill({name: [propose(number / 10)] for number, name in enumerate("abc")})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("a", "ArrowRight", "r")
        await ann.until_kept()
        assert await house.states() == {"a": ["accepted"], "b": ["proposed"], "c": ["rejected"]}
        await ann.page.click('[data-filter="open"]')
        await ann.until("() => document.querySelectorAll('.cell').length === 1")


async def test_undo_takes_back_one_decision_after_another(house, browser):
    await house.fill({name: [propose(number / 10, name=name)] for number, name in enumerate("abc")})
    before = {name: await house.boxes(name) for name in "abc"}
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter", "a", "r", "u")
        await ann.until_shown("b")
        await ann.until_kept()
        assert await house.states() == {"a": ["accepted"], "b": ["proposed"], "c": ["proposed"]}
        await ann.press("Control+z")
        await ann.until_shown("a")
        await ann.until_kept()
        await ann.press("u")
        await expect(ann.page.locator(".news")).to_contain_text("Nothing to undo")
    assert {name: await house.boxes(name) for name in "abc"} == before


async def test_a_key_that_is_held_down_decides_once(house, browser):
    await house.fill({name: [propose(number / 10)] for number, name in enumerate("abc")})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        for _ in range(3):
            await ann.page.keyboard.down("a")
        await ann.page.keyboard.up("a")
        await ann.until_kept()
    assert await house.states() == {"a": ["accepted"], "b": ["proposed"], "c": ["proposed"]}


async def test_a_reload_in_the_midst_of_work_loses_nothing(house, browser):
    await house.fill({f"{number:02}": [propose(number / 100)] for number in range(30)})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter", *"arar")
        await ann.until_kept()
        await ann.page.route("**/api/decisions", lambda route: route.abort())
        await ann.press(*"aaaaaaaaaa")
        await ann.page.wait_for_selector('.sync[data-state="waiting"]')
        assert len(await ann.stored()) == 10
        await ann.page.reload()
        await ann.until_shown("14")  # where the person was, with what had been decided
        await ann.until("() => document.querySelector('.count')?.textContent?.startsWith('14 of 30')")
        assert len(await ann.stored()) == 10
        assert [states[0] for states in (await house.states()).values()].count("accepted") == 2
        await ann.page.unroute("**/api/decisions")
        await ann.until_kept()
        assert await ann.stored() == []
    kept = [states[0] for states in (await house.states()).values()]
    assert kept == ["accepted", "rejected"] * 2 + ["accepted"] * 10 + ["proposed"] * 16


async def test_an_answer_that_gets_lost_is_no_conflict(house, browser):
    await house.fill({"a": [propose(0.1)], "b": [propose(0.2)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.lose_answers()
        await ann.press("Enter", "a")
        await ann.page.wait_for_selector('.sync[data-state="waiting"]')
        await ann.press("p", "r")  # decided otherwise before the answer came
        await ann.page.unroute("**/api/decisions")
        await ann.until_kept()
        await expect(ann.page.locator(".conflicts")).to_be_hidden()
    assert (await house.states())["a"] == ["rejected"]


@pytest.mark.parametrize(("key", "kept"), [("m", "rejected"), ("t", "accepted")])
async def test_two_people_see_their_conflict_and_one_chooses(house, browser, key, kept):
    await house.fill({"a": [propose(0.1)], "b": [propose(0.2)]})
    async with (
        reviewing(house, "ann") as one,
        reviewing(house, "ben") as other,
        sitting(browser, one) as ann,
        sitting(browser, other) as ben,
    ):
        await ann.press("a")
        await ann.until_kept()
        await ben.press("r")  # of what ben saw
        await ben.page.wait_for_selector(".conflicts:visible")
        assert await house.states() == {"a": ["accepted"], "b": ["proposed"]}  # nothing was overwritten
        await ben.press("c")
        dialog = ben.page.locator("dialog.conflict")
        await expect(dialog.locator(".mine")).to_contain_text("nut rejected")
        await expect(dialog.locator(".theirs")).to_contain_text("nut accepted")
        await ben.page.reload()  # a conflict outlives a reload
        await ben.page.wait_for_selector(".conflicts:visible")
        await ben.press("c", key)
        await ben.until_kept()
        await expect(ben.page.locator(".conflicts")).to_be_hidden()
    assert (await house.states())["a"] == [kept]


async def test_what_somebody_else_did_is_shown_when_an_item_is_opened(house, browser):
    await house.fill({"a": [propose(0.1)], "b": [propose(0.2)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        drawn = [mekiki.Annotation(Box(1, 1, 9, 9), "bolt", source="ben", state=AnnotationState.ACCEPTED)]
        await house.codec.update_item(DATASET, "b", annotations=drawn)
        await ann.press("Enter", "n")
        await ann.page.wait_for_selector('.entry.accepted:has-text("ben")')


async def test_hostile_names_and_labels_are_shown_as_text(house, browser):
    items = {name: [propose(0.1 * number, label=name[:80])] for number, name in enumerate(HOSTILE)}
    await house.fill(items, labels=(HOSTILE[0], HOSTILE[1]))
    async with reviewing(house, reviewer=HOSTILE[0]) as url, sitting(browser, url, cells=len(items)) as ann:
        await ann.press("Enter")
        for name in HOSTILE:
            shown = name.replace("\u202e", "\\u{202e}").replace("\u2066", "\\u{2066}")
            await ann.until("(name) => document.querySelector('.facts h1')?.textContent === name", shown)
            await ann.until("() => document.querySelector('.picture')?.classList.contains('sharp')")
            await ann.press("Tab", "l")
            await ann.page.keyboard.type(HOSTILE[1])
            await ann.press("Enter", "Escape", "b", "a")
        await ann.until_kept()
        await ann.press("g", "?")
        await ann.page.wait_for_selector("dialog.help[open]")
        assert await ann.page.evaluate("window.pwned") is None
        await expect(ann.page.locator("script")).to_have_count(1)
        await expect(ann.page.locator("img[src=x]")).to_have_count(0)
        assert await ann.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert {states[0] for states in (await house.states()).values()} == {"accepted"}
    assert {(await house.boxes(name))[0].label for name in HOSTILE} == {HOSTILE[1]}


async def test_nothing_that_gets_into_the_page_runs_as_a_script(house, browser):
    await house.fill({"a": []})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        added = """() => {
            const script = document.createElement('script');
            try { script.textContent = 'window.pwned = 1'; document.body.append(script); } catch { return 'refused'; }
        }"""
        await ann.page.evaluate(added)
        await ann.page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>' } catch { window.kept = 1 } }")
        assert await ann.page.evaluate("[window.pwned, window.kept]") == [None, 1]


async def test_boxes_are_drawn_with_the_mouse_and_deleted(house, browser):
    await house.fill({"a": [propose(0.5, name="one")]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        await ann.drag((2, 4), (12, 14))
        await ann.drag((25, 20), (35, 28), key="Shift")  # inside the proposal
        await ann.until_kept()
        boxes = await house.boxes("a")
        assert [each.box for each in boxes] == [Box(20, 16, 40, 32), Box(2, 4, 12, 14), Box(25, 20, 35, 28)]
        assert [(each.state, each.source, each.label) for each in boxes[1:]] == [("accepted", "ann", "nut")] * 2
        await ann.press("Delete")  # the one that was drawn last
        await ann.page.mouse.click(*await ann.place(22, 30))
        await ann.press("Delete")  # a machine's is kept as rejected, or it would come again
        await ann.until_kept()
        assert [(each.box.x_min, each.state) for each in await house.boxes("a")] == [(20, "rejected"), (2, "accepted")]
        await ann.press("u", "u")
        await ann.until_kept()
    assert [each.state for each in await house.boxes("a")] == ["proposed", "accepted", "accepted"]


async def test_a_box_is_moved_and_its_edges_are_dragged(house, browser):
    await house.fill({"a": [propose(0.5)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        await ann.drag((30, 24), (35, 20))
        await ann.until_kept()
        assert (await house.boxes("a"))[0].box == Box(25, 12, 45, 28)
        await ann.drag((45, 28), (60, 40))  # its corner
        await ann.drag((25, 26), (10, 26))  # its left edge
        await ann.drag((35, 12), (35, -3))  # its upper edge, beyond the image
        await ann.until_kept()
    (moved,) = await house.boxes("a")
    assert (moved.box, moved.source, moved.score, moved.state) == (Box(10, 0, 60, 40), "ann", 1.0, "accepted")


async def test_edges_are_nudged_by_keys_and_undone_as_one(house, browser):
    await house.fill({"a": [propose(0.5)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter", "Tab", "ArrowRight", "ArrowDown", "Shift+ArrowLeft")  # all of it
        await ann.until_kept()
        assert (await house.boxes("a"))[0].box == Box(11, 17, 31, 33)
        await ann.press("e", "ArrowLeft", "ArrowUp")  # the left edge does not go up
        await ann.press("e", "ArrowUp", "e", "Shift+ArrowRight", "e", *["Shift+ArrowDown"] * 3)
        await ann.until_kept()
        assert (await house.boxes("a"))[0].box == Box(10, 16, 41, 48)
        await ann.press("u")
        await ann.until_kept()
    assert [(each.box, each.state) for each in await house.boxes("a")] == [(Box(20, 16, 40, 32), "proposed")]


async def test_a_box_is_made_without_a_mouse(house, browser):
    await house.fill({"a": []})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter", "b", "ArrowLeft")
        await ann.until_kept()
    (made,) = await house.boxes("a")
    assert (made.box, made.label, made.state) == (Box(21, 17, 41, 31), "nut", "accepted")


async def test_the_label_is_changed_by_a_digit_or_written(house, browser):
    await house.fill({"a": [propose(0.5)], "b": [propose(0.6), propose(0.7, (1, 1, 9, 9))]}, labels=("nut", "bolt"))
    async with reviewing(house) as url, sitting(browser, url) as ann:
        labels = await house.codec.get_dataset(DATASET)
        digit = sorted(labels.label_counts).index("bolt") + 1
        await ann.press("Enter", str(digit), "n", str(digit))  # b has two boxes: none is meant
        await ann.page.wait_for_selector('.news:has-text("Choose a box first")')
        await ann.press("Tab", "Tab", "l")
        await ann.page.keyboard.type("großer <b>Ring</b>")
        await ann.press("Enter", "Escape", "a")
        await ann.until_kept()
    assert [each.label for each in await house.boxes("a")] == ["bolt"]
    assert [each.label for each in await house.boxes("b")] == ["nut", "großer <b>Ring</b>"]


async def test_one_box_of_several_is_judged_alone(house, browser):
    await house.fill({"a": [propose(0.5), propose(0.6, (1, 1, 9, 9))], "b": [propose(0.9)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter", "Tab", "r")
        await ann.until("() => document.querySelectorAll('.entry')[1].classList.contains('chosen')")
        await ann.press("a")
        await ann.until_shown("b")
        await ann.until_kept()
    assert await house.states() == {"a": ["rejected", "accepted"], "b": ["proposed"]}


async def test_the_image_is_zoomed_and_moved_and_boxes_stay_on_it(house, browser):
    await house.fill({"a": [propose(0.5)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        small = await ann.page.locator(".stage .boxes").bounding_box()
        await ann.page.mouse.move(*await ann.place(30, 24))
        at = await ann.place(30, 24)
        await ann.page.mouse.wheel(0, -400)
        await ann.until(
            f"() => document.querySelector('.stage .boxes')?.getBoundingClientRect().width > {small['width']}"
        )
        assert await ann.place(30, 24) == pytest.approx(at, abs=1)  # what is under the pointer stays there
        await ann.press("z", "+", "-")
        await ann.page.keyboard.down("Control")
        await ann.drag((30, 24), (35, 28))
        await ann.page.keyboard.up("Control")
        await ann.drag((30, 24), (33, 24))
        await ann.press("0")
        assert await ann.page.locator(".stage .boxes").bounding_box() == small
        await ann.until_kept()
    assert (await house.boxes("a"))[0].box == Box(23, 16, 43, 32)


async def test_a_heat_map_is_laid_over_the_image_on_demand(house, browser):
    await house.fill({"a": [propose(0.5)], "b": []})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.press("Enter")
        assert house.saliency.asked == []
        await ann.press("h")
        await ann.until("() => document.querySelector('.heat')?.naturalWidth === 4")
        assert house.saliency.asked == [("kinds", "nut")]
        await ann.press("n")
        await ann.page.wait_for_selector('.news:has-text("--classifier")')
        await ann.press("h", "p")
        await expect(ann.page.locator(".heat")).to_be_hidden()


async def test_one_key_turns_a_false_alarm_into_a_normal(house, browser):
    house.anomaly.scores = {"good": 1.1, "bad": 5.0}
    await house.fill({"a": [], "bad": [], "good": []})
    async with reviewing(house, detector="screws") as url, sitting(browser, url, cells=3) as ann:
        await ann.page.wait_for_selector('.cell.current[data-item="good"]')  # nearest to the threshold
        await expect(ann.page.locator('.cell[data-item="good"] .say')).to_contain_text("anomalous 1.10\u00d7")
        await ann.press("Enter")
        await ann.page.wait_for_selector('.verdict[data-verdict="anomalous"]')
        await ann.press("h")
        await ann.until("() => document.querySelector('.heat')?.naturalWidth === 4")
        await ann.press("f")
        await ann.until_shown("bad")
        await ann.until_kept()
        assert house.anomaly.bank == {"good": "m6"}
        await ann.press("a")  # a defect indeed: its region is kept
        await ann.until_kept()
        (rejected,), (defect,) = await house.boxes("good"), await house.boxes("bad")
        assert (rejected.state, rejected.source) == ("rejected", "anomaly/screws@3")
        assert (defect.state, defect.box, defect.label) == ("accepted", Box(4, 4, 24, 20), "defect")
        await ann.press("u", "u")
        await ann.until_shown("good")
        await ann.until_kept()
        assert house.anomaly.bank == {}
        await ann.page.wait_for_selector('.verdict[data-verdict="anomalous"]')
    assert await house.states() == {"a": [], "bad": [], "good": []}


async def test_a_review_that_was_started_anew_says_so_and_loses_nothing(house, browser):
    await house.fill({"a": [propose(0.1)], "b": [propose(0.2)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.page.context.clear_cookies()
        await ann.press("a")
        await ann.page.wait_for_selector('.sync[data-state="locked"]')
        assert len(await ann.stored()) == 1
        await ann.page.goto(f"{url}/?token={TOKEN}")
        await ann.until_kept()
        assert "token" not in ann.page.url
    assert (await house.states())["a"] == ["accepted"]


async def test_a_second_window_does_not_send_what_the_first_one_has_in_hand(house, browser):
    await house.fill({"a": [propose(0.1)], "b": [propose(0.2)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.page.route("**/api/decisions", lambda route: route.abort())
        await ann.press("a")
        await ann.page.wait_for_selector('.sync[data-state="waiting"]')
        second = await ann.page.context.new_page()
        await second.goto(url)
        await second.wait_for_selector(".cell >> nth=1")
        await asyncio.sleep(0.3)
        assert (await house.states())["a"] == ["proposed"]
        await ann.page.close()  # the first one is gone: the second takes over
        await second.wait_for_selector('.cell[data-item="a"][data-state="accepted"]')
        await second.wait_for_selector('.sync[data-state="kept"][data-unsent="0"]')
    assert (await house.states())["a"] == ["accepted"]


async def test_what_the_service_refuses_is_said_and_can_be_tried_again(house, browser):
    await house.fill({"a": [propose(0.1)], "b": [propose(0.2)]})
    async with reviewing(house) as url, sitting(browser, url) as ann:

        async def refuse(*_, **__):
            raise mekiki.errors.PermissionDenied("UpdateItem needs the role <b>engineer</b>")

        house.codec.update_item, kept = refuse, house.codec.update_item
        await ann.press("a", "r")
        await ann.until("() => document.querySelector('.conflicts')?.textContent === '2 conflicts'")
        assert len(await ann.stored()) == 2
        await ann.press("c")
        await expect(ann.page.locator("dialog.conflict .why")).to_contain_text("needs the role <b>engineer</b>")
        house.codec.update_item = kept
        await ann.press("m")  # try again; the next one is shown by itself
        await ann.until("() => document.querySelector('dialog.conflict .of')?.textContent === 'a'")
        await ann.press("t")  # let it go
        await ann.until_kept()
    assert await house.states() == {"a": ["proposed"], "b": ["rejected"]}


async def test_a_damaged_picture_does_not_hold_up_the_others(house, browser):
    await house.fill({"a": [propose(0.1)], "b": [propose(0.2)]})
    read_items = house.codec.read_items

    async def damage(items, **options):
        async for read in read_items(items, **options):
            is_hit = read.item.item_id == "a" and not options.get("metadata_only")
            yield dataclasses.replace(read, result=None, error=mekiki.errors.DataLoss("damaged")) if is_hit else read

    house.codec.read_items = damage
    async with reviewing(house) as url, sitting(browser, url) as ann:
        await ann.page.wait_for_selector('.cell.broken[data-item="a"]')
        await ann.press("Enter")
        await ann.page.wait_for_selector(".stage.broken")
        await ann.press("r")
        await ann.until("() => document.querySelector('.picture')?.classList.contains('sharp')")
        await ann.until_kept()
    assert (await house.states())["a"] == ["rejected"]


async def test_an_empty_data_set_is_an_empty_sheet(house, browser):
    await house.fill({})
    async with reviewing(house) as url:
        page = await browser.new_page()
        await page.goto(f"{url}/?token={TOKEN}")
        await page.wait_for_selector('.nothing:has-text("Nothing here")')
        for key in "anruc?":
            await page.keyboard.press(key)
        await expect(page.locator(".count")).to_contain_text("0 of 0")
