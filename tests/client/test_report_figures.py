from xml.etree import ElementTree as ET

import numpy as np
import pytest

from mekiki.demo.charts import draw_latencies, draw_sizes
from mekiki.demo.curve import bound_share, measure_auroc, smallest_rate, trace_roc
from mekiki.demo.figures import box_iou, show_bytes, show_duration, show_ratio, show_share
from mekiki.formats.files import safe_name
from mekiki.report.charts import draw_roc, draw_scores, nice_ticks
from mekiki.report.pictures import draw_box, overlay_heat, shrink


def test_the_area_is_the_chance_of_ranking_right():
    assert measure_auroc([1, 2, 3], [4, 5]) == 1
    assert measure_auroc([4, 5], [1, 2]) == 0
    assert measure_auroc([1, 2], [1, 2]) == 0.5
    assert measure_auroc([1, 3], [2, 4]) == 0.75
    assert np.isnan(measure_auroc([], [1]))


def test_the_area_under_the_traced_curve_is_the_measured_one():
    rng = np.random.default_rng(4)
    good, bad = rng.normal(0, 1, 40).round(1).tolist(), rng.normal(1, 1, 30).round(1).tolist()
    curve = trace_roc(good, bad)
    assert curve[0].tolist() == [0, 0]
    assert curve[-1].tolist() == [1, 1]
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(measure_auroc(good, bad))


def test_intervals_are_those_of_clopper_and_pearson():
    # Against the closed forms for none and all, and a printed table value for 1 of 10 (0.0025, 0.4450).
    assert bound_share(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert bound_share(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert bound_share(1, 10) == (pytest.approx(0.0025, abs=1e-4), pytest.approx(0.4450, abs=1e-4))


@pytest.mark.parametrize(("normals", "rate"), [(59, 0.05), (58, 0.051), (299, 0.01), (1, 0.951)])
def test_the_promise_is_the_smallest_the_normals_allow(normals, rate):
    assert smallest_rate(normals, 0.95) == pytest.approx(rate)
    assert (1 - smallest_rate(normals, 0.95)) ** normals <= 0.05 + 1e-12


def test_boxes_overlap_as_counted_by_hand():
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert box_iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0


def test_numbers_are_shown_as_people_read_them():
    assert show_bytes(999) == "999 bytes"
    assert show_bytes(37_654_321) == "37.7 MB"
    assert show_bytes(212_000) == "212 kB"
    assert show_share(0.049) == "4.9 %"
    assert show_share(0.95) == "95 %"
    assert show_ratio(125.7) == "126 times"
    assert show_duration(61.7) == "62 ms"
    assert show_duration(1621.0) == "1.6 s"
    assert show_ratio(1.84) == "1.8 times"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.37, 0.4), (10, 12345), (1e-6, 3e-6)])
def test_ticks_are_round_few_and_inside(low, high):
    ticks = nice_ticks(low, high, 6)
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-9 <= tick <= high * (1 + 1e-9) for tick in ticks)


@pytest.mark.parametrize(
    "chart",
    [
        draw_scores([("a<b", 'x"y', [1.0], "#000"), ("many", "", list(np.linspace(0, 2, 900)), "#111")], 1.2),
        draw_roc(trace_roc([1, 2], [3]), (0.0, 1.0), 1.0),
        draw_sizes([("a", "1 & 2", 10), ("b", "0", 0)]),
        draw_latencies([5.0], 5.0, 5.0),
    ],
)
def test_charts_are_well_formed(chart):
    root = ET.fromstring(chart)
    assert root.tag.endswith("svg")
    numbers = [value for element in root.iter() for value in element.attrib.values() if value in {"nan", "inf"}]
    assert numbers == []


def test_few_scores_are_dots_and_each_is_there():
    root = ET.fromstring(draw_scores([("good", "", [1.0, 1.0, 1.5], "#000")], 2.0))
    assert len([element for element in root.iter() if element.tag.endswith("circle")]) == 3


def test_heat_covers_what_is_hot_and_leaves_what_is_normal():
    grey = np.full((20, 20), 90, np.uint8)
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 5
    warm = overlay_heat(grey, heat, 1.0, 4.0)
    assert warm[19, 19].tolist() == [90, 90, 90]
    assert warm[0, 0, 0] > 200


def test_a_box_is_drawn_without_touching_the_original():
    grey = np.zeros((40, 40), np.uint8)
    drawn = draw_box(grey, (5, 6, 30, 31), (255, 0, 0))
    assert drawn[6, 15, 0] > 200
    assert not grey.any()


def test_shrinking_keeps_the_proportions():
    assert shrink(np.zeros((100, 50, 3), np.uint8), 40).shape == (40, 20, 3)
    assert shrink(np.zeros((10, 10), np.uint8), 40).shape == (10, 10)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "..", "", "a\x00b", "日本.png"])
def test_no_name_leaves_the_folder(name, tmp_path):
    safe = safe_name(name)
    assert safe
    assert (tmp_path / f"{safe}.xml").resolve().parent == tmp_path.resolve()
