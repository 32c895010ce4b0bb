"""Masks as polygons."""

import json

import numpy as np
import pytest

from mekiki import Annotation, Box
from mekiki.cli.folder import read_folder
from mekiki.formats import Mark, Picture
from mekiki.formats.labelme import write_labelme
from mekiki.formats.outlines import draw_outlines, fill_polygon
from mekiki.formats.tracing import trace_mask

RING = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]], np.bool_)


def paint(polygons, height, width):
    """How many of the polygons each pixel is in."""
    return sum(
        (fill_polygon(polygon, width, height).astype(int) for polygon in polygons), np.zeros((height, width), int)
    )


@pytest.mark.parametrize("seed", range(40))
def test_polygons_filled_are_the_mask_again(seed):
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 14, 2)
    mask = random.random((height, width)) < random.random()
    assert np.array_equal(paint(trace_mask(mask), height, width), mask)


def test_a_polygon_has_corners_alone():
    mask = np.zeros((5, 7), np.bool_)
    mask[1:4, 2:6] = True
    (polygon,) = trace_mask(mask)
    assert sorted(map(tuple, polygon.tolist())) == [(2, 1), (2, 4), (6, 1), (6, 4)]


def test_what_touches_at_corners_alone_is_two_parts():
    assert len(trace_mask(np.eye(2, dtype=np.bool_))) == 2
    assert len(trace_mask(np.ones((2, 2), np.bool_))) == 1
    assert trace_mask(np.zeros((2, 2), np.bool_)) == ()


def test_an_island_in_a_hole_is_a_part_of_its_own():
    mask = np.pad(np.zeros((3, 3), np.bool_), 2, constant_values=True)
    mask[3, 3] = True
    polygons = trace_mask(mask)
    assert sorted(paint([polygon], 7, 7).sum() for polygon in polygons) == [1, 40]


def test_labelme_gets_polygons_that_are_read_as_the_mask(tmp_path):
    masks = RING, np.eye(4, dtype=np.bool_)[:, ::-1]
    boxes = Box(3, 2, 7, 6), Box(10, 5, 14, 9)
    marks = tuple(Mark(Annotation(box, "dent", 0.5), mask) for box, mask in zip(boxes, masks, strict=True))
    picture = Picture("a.png", np.zeros((12, 20, 3), np.uint8), marks, ("dent",))
    assert write_labelme(tmp_path, [picture], polygons=True) == 1
    shapes = json.loads((tmp_path / "a.json").read_text())["shapes"]
    assert {shape["shape_type"] for shape in shapes} == {"polygon"}
    assert [shape["group_id"] for shape in shapes] == [None, 2, 2, 2, 2]
    (file,) = read_folder(tmp_path).files
    assert np.array_equal(draw_outlines(file.outlines, 20, 12), picture.draw_mask())


def test_what_has_no_mask_stays_a_rectangle(tmp_path):
    picture = Picture("a.png", np.zeros((12, 20, 3), np.uint8), (Mark(Annotation(Box(3, 2, 7, 6), "dent")),))
    write_labelme(tmp_path, [picture], polygons=True)
    (shape,) = json.loads((tmp_path / "a.json").read_text())["shapes"]
    assert (shape["shape_type"], shape["points"]) == ("rectangle", [[3, 2], [7, 6]])
