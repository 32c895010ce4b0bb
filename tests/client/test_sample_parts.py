import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mekiki.sample_parts import DEFECTS, EMPTY, KINDS, render_kinds, render_parts
from mekiki.sample_parts.folder import bound, render_station
from mekiki.sample_parts.part import PARTS

SIZE = 160


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def screws(tmp_path_factory):
    out = tmp_path_factory.mktemp("screws")
    render_parts(out, count=25, seed=7, size=SIZE)
    return out


def test_the_same_seed_gives_the_same_bytes(screws, tmp_path):
    render_parts(tmp_path, count=25, seed=7, size=SIZE)
    assert read_files(tmp_path) == read_files(screws)
    assert (tmp_path / "boxes.json").read_bytes() == (screws / "boxes.json").read_bytes()


def test_another_seed_gives_other_pictures(screws, tmp_path):
    render_parts(tmp_path, count=1, seed=8, size=SIZE)
    assert (tmp_path / "train/good/0000.png").read_bytes() != (screws / "train/good/0000.png").read_bytes()


def test_the_count_does_not_change_earlier_pictures(screws, tmp_path):
    render_parts(tmp_path, count=6, seed=7, size=SIZE)
    few, many = read_files(tmp_path), read_files(screws)
    assert few
    assert all(many[name] == data for name, data in few.items())


def test_the_layout_is_what_the_demo_reads(screws):
    assert len(list((screws / "train/good").glob("*.png"))) == 15
    assert len(list((screws / "test/good").glob("*.png"))) == 5
    assert sorted(path.name for path in (screws / "test").iterdir()) == sorted(("good", *DEFECTS))
    assert sorted(path.name for path in (screws / "masks").iterdir()) == sorted(DEFECTS)


def test_masks_are_black_and_white_and_of_the_pictures_size(screws):
    for path in (*screws.glob("masks/*/*.png"), *screws.glob("part_masks/*/*/*.png")):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (SIZE, SIZE)
        assert set(np.unique(mask)) == {0, 255}


def test_boxes_bound_their_masks_tightly(screws):
    truth = json.loads((screws / "boxes.json").read_text())["images"]
    assert len(truth) == 25
    for name, entry in truth.items():
        part = cv2.imread(str(screws / "part_masks" / name), cv2.IMREAD_UNCHANGED)
        assert tuple(entry["box"]) == bound(part > 0)
        if entry["defect"]:
            mask = cv2.imread(str(screws / "masks" / entry["defect"] / Path(name).name), cv2.IMREAD_UNCHANGED)
            assert tuple(entry["defect_box"]) == bound(mask > 0)


def test_a_box_is_half_open():
    mask = np.zeros((6, 8), dtype=bool)
    mask[2:4, 3:7] = True
    assert bound(mask) == (3, 2, 7, 4)
    assert bound(np.zeros((6, 8), dtype=bool)) is None


@pytest.mark.parametrize("part", PARTS, ids=KINDS)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defective_part_differs_from_its_twin_only_near_the_mask(part, defect):
    for index in range(3):
        good = render_station(part, "", 3, index, SIZE)
        bad = render_station(part, defect, 3, index, SIZE)
        change = np.abs(good.pixels.astype(int) - bad.pixels.astype(int)).max(axis=-1)
        reach = int(SIZE * 0.17)  # a shadow moves with the metal that throws it
        near = cv2.dilate(bad.spoilt.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
        assert bad.spoilt.any()
        assert change[~near].max(initial=0) <= 3
        assert change[bad.spoilt].mean() > 2 * change[~bad.spoilt].mean()


@pytest.mark.parametrize("part", PARTS, ids=KINDS)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_lies_on_the_part(part, defect):
    good = render_station(part, "", 5, 4, SIZE)
    bad = render_station(part, defect, 5, 4, SIZE)
    assert not (bad.spoilt & ~(good.part | bad.part)).any()
    if defect == "missing":
        assert not (bad.spoilt & bad.part).any()


@pytest.mark.parametrize("part", PARTS, ids=KINDS)
def test_the_whole_part_is_in_the_picture(part):
    for index in range(12):
        left, top, right, bottom = bound(render_station(part, "", 1, index, SIZE).part)
        assert min(left, top) > 0
        assert max(right, bottom) < SIZE


def test_several_kinds_get_a_folder_each(tmp_path):
    render_parts(tmp_path, count=2, kinds=KINDS, size=64)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(KINDS)


def test_labelled_parts_lie_in_one_folder_per_class_with_their_boxes(tmp_path):
    render_kinds(tmp_path, count=8, seed=2, size=SIZE)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == sorted((*KINDS, EMPTY))
    truth = json.loads((tmp_path / "boxes.json").read_text())["images"]
    boxes = {entry["label"]: entry["box"] for entry in truth.values()}
    assert boxes[EMPTY] is None
    assert all(boxes[kind] for kind in KINDS)


@pytest.mark.parametrize(
    ("field", "arguments"), [("count", {"count": 0}), ("size", {"size": 8}), ("seed", {"seed": -1})]
)
def test_numbers_out_of_range_are_refused_by_name(tmp_path, field, arguments):
    with pytest.raises(ValueError, match=field):
        render_parts(tmp_path, **arguments)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="bolt"):
        render_parts(tmp_path, kinds=("bolt",))


def test_progress_counts_every_picture(tmp_path):
    seen = []
    render_parts(tmp_path, count=3, size=64, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
