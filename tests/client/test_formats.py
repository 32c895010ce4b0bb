"""What is written in a format is read back the same, by `mekiki push` and by libraries that know nothing of Mekiki."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from mekiki import AnnotationState, Box
from mekiki.cli.datasets import to_new_item
from mekiki.cli.folder import read_folder
from mekiki.formats import DatasetFormat, write_dataset
from mekiki.formats.outlines import fill_polygon
from mekiki.formats.runs import from_columns, pack_columns
from mekiki.formats.writing import MASKED
from tests.client.marked import HEIGHT, WIDTH, mark, picture, pictures

ALL = list(DatasetFormat)


def read_back(folder):
    """What push would send, by the file's name."""
    return {file.path.stem: file for file in read_folder(folder).files}


def boxes(file):
    return [(note.label, note.box) for note in file.boxes]


def told(written):
    return [(each.annotation.label, each.annotation.box) for each in written.marks]


@pytest.mark.parametrize("form", ALL)
def test_boxes_labels_and_splits_come_back(form, tmp_path):
    written = pictures()
    assert write_dataset(form, tmp_path, iter(written), lossless=True) == 5
    read = read_back(tmp_path)
    assert set(read) == {"train_a", "train_b", "val_a", "test_a", "loose"}
    for each in written:
        file = read[each.name.replace("/", "_").removesuffix(".png")]
        assert boxes(file) == told(each)
        assert {note.state for note in file.boxes} <= {AnnotationState.ACCEPTED}
        assert file.split == ("train" if form == "yolo" and not each.split else each.split)
        assert set(file.labels) == {label for label, _ in told(each)}
        assert np.array_equal(np.asarray(Image.open(file.path)), each.pixels)


@pytest.mark.parametrize("form", sorted(MASKED))
def test_masks_come_back(form, tmp_path):
    one = picture("a", mark("nut", 3, 4, 30, 31, masked=True), mark("nut", 25, 20, 60, 40, masked=True))
    write_dataset(form, tmp_path, [one])
    file = read_back(tmp_path)["a"]
    assert boxes(file) == told(one)
    assert np.array_equal(to_new_item(file).mask, one.draw_mask())


@pytest.mark.parametrize("form", [DatasetFormat.COCO, DatasetFormat.DATUMARO, DatasetFormat.LABELME,
                                  DatasetFormat.CVAT, DatasetFormat.CSV])  # fmt: skip
def test_states_and_scores_come_back_where_a_format_has_room(form, tmp_path):
    one = picture("a", mark("nut", 3, 4, 30, 31, score=0.25, state=AnnotationState.PROPOSED), mark("nut", 0, 0, 2, 2))
    write_dataset(form, tmp_path, [one])
    first, second = read_back(tmp_path)["a"].boxes
    assert (first.state, first.score) == (AnnotationState.PROPOSED, 0.25)
    assert (second.state, second.score) == (AnnotationState.ACCEPTED, 1.0)


@pytest.mark.parametrize("form", [DatasetFormat.DATUMARO, DatasetFormat.LABELME, DatasetFormat.CVAT, DatasetFormat.CSV])
def test_labels_of_whole_pictures_come_back_where_a_format_has_room(form, tmp_path):
    write_dataset(form, tmp_path, [picture("a", labels=("good", "night shift")), picture("b")])
    read = read_back(tmp_path)
    assert read["a"].labels == ("good", "night shift")
    assert read["b"].labels == ()


@pytest.mark.parametrize("form", ALL)
def test_nothing_to_write_is_no_mistake(form, tmp_path):
    assert write_dataset(form, tmp_path / "deep" / "new", iter(())) == 0


@pytest.mark.parametrize("form", ALL)
def test_hostile_names_and_labels_stay_inside_the_folder_and_inside_the_file(form, tmp_path):
    names = ["../../../evil.png", "/etc/passwd", "a\x00b", "..", "x" * 300, "A.png", "a.png", "a.jpg"]
    label = '"><evil a="&x;\n= \u202e'
    out = tmp_path / "deep" / "out"
    assert write_dataset(form, out, [picture(name, mark(label, 1, 1, 5, 5)) for name in names]) == len(names)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(out in path.parents for path in written)
    files = read_back(out).values()
    assert len({file.path.name.lower() for file in files}) == len(names)
    assert [" ".join(note.label.split()) for file in files for note in file.boxes] == [" ".join(label.split())] * 8


def test_voc_counts_pixels_from_one_and_its_lists_name_the_splits(tmp_path):
    write_dataset("voc", tmp_path, pictures())
    root = ET.parse(tmp_path / "Annotations/train_a.xml").getroot()
    assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == ["60", "40", "3"]
    with Image.open(tmp_path / "JPEGImages" / root.findtext("filename")) as written:
        assert written.size == (60, 40)
    ends = [int(root.findtext(f"object/bndbox/{end}")) for end in ("xmin", "ymin", "xmax", "ymax")]
    assert ends == [1, 1, 11, 7]
    lists = {path.stem: path.read_text().split() for path in (tmp_path / "ImageSets/Main").iterdir()}
    assert lists == {
        "train": ["train_a", "train_b"],
        "val": ["val_a"],
        "test": ["test_a"],
        "trainval": ["train_a", "train_b", "val_a", "loose"],
    }


def test_yolo_never_trains_on_test_images(tmp_path):
    import yaml

    write_dataset("yolo", tmp_path, [picture("a", split="test")])
    described = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert described["train"] == described["val"] == "images/train"
    assert described["test"] == "images/test"


def test_runs_are_the_same_as_those_of_the_coco_api(tmp_path):
    mask = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for share in (0, 0.01, 0.3, 0.99, 1):
        drawn = np.kron(random.random((9, 13)) < share, np.ones((11, 7))).astype(bool)
        packed = mask.encode(np.asfortranarray(drawn.astype(np.uint8)))
        assert pack_columns(drawn) == packed["counts"].decode()
        assert np.array_equal(from_columns(packed["counts"].decode(), *drawn.shape[::-1]), drawn)


def test_a_polygon_is_filled_by_the_centres_of_its_pixels():
    random = np.random.default_rng(2)
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    for count in range(3, 12):
        polygon = random.uniform(-10, 70, (count, 2)).round(int(random.integers(3)))
        inside = np.zeros((HEIGHT, WIDTH), bool)
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
                inside ^= crosses & (x0 + (y - y0) / (y1 - y0) * (x1 - x0) <= x)
        assert np.array_equal(fill_polygon(polygon, WIDTH, HEIGHT), inside)


def test_a_word_within_a_word_is_no_split(tmp_path):
    write_dataset("coco", tmp_path, [picture("a", mark("nut", 1, 1, 5, 5))])
    (tmp_path / "annotations/instances_default.json").rename(tmp_path / "annotations/latest_intervals.json")
    file = read_back(tmp_path)["a"]
    assert (len(file.boxes), file.split) == (1, "")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_boxes_and_masks(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    written = pictures(masked=True)[:2]
    write_dataset("coco", tmp_path, written)
    read = coco.COCO(tmp_path / "annotations/instances_train.json")
    images = {image["file_name"]: image for image in read.loadImgs(read.getImgIds())}
    for each in written:
        image = images[each.name.replace("/", "_").replace(".png", ".jpg")]
        assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
        notes = read.loadAnns(read.getAnnIds(imgIds=image["id"]))
        assert [read.cats[note["category_id"]]["name"] for note in notes] == [label for label, _ in told(each)]
        drawn = np.logical_or.reduce([read.annToMask(note) for note in notes])
        assert np.array_equal(drawn, each.draw_mask())


@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
@pytest.mark.filterwarnings("ignore")
def test_supervision_reads_the_boxes(form, tmp_path):
    supervision = pytest.importorskip("supervision")
    written = pictures()[:2]
    write_dataset(form, tmp_path, written)
    load = supervision.DetectionDataset
    if form == "voc":
        read = load.from_pascal_voc(str(tmp_path / "JPEGImages"), str(tmp_path / "Annotations"))
    elif form == "yolo":
        places = (tmp_path / "images/train", tmp_path / "labels/train", tmp_path / "data.yaml")
        read = load.from_yolo(*map(str, places))
    else:
        places = (tmp_path / "images/train", tmp_path / "annotations/instances_train.json")
        read = load.from_coco(*map(str, places))
    found = {path.rsplit("/", 1)[1]: notes for path, _, notes in read}
    for each in written:
        notes = found[each.name.replace("/", "_").replace(".png", ".jpg")]
        labels = [read.classes[number] for number in notes.class_id]
        ends = np.round(notes.xyxy).astype(int)
        assert [(label, Box(*end)) for label, end in zip(labels, ends.tolist(), strict=True)] == told(each)


@pytest.mark.parametrize("form", ["voc", "coco", "cvat", "labelme"])
def test_globox_reads_the_boxes(form, tmp_path):
    globox = pytest.importorskip("globox")
    written = pictures()[:2]
    write_dataset(form, tmp_path, written)
    read = {
        "voc": lambda: globox.AnnotationSet.from_pascal_voc(tmp_path / "Annotations"),
        "coco": lambda: globox.AnnotationSet.from_coco(tmp_path / "annotations/instances_train.json"),
        "cvat": lambda: globox.AnnotationSet.from_cvat(tmp_path / "annotations.xml"),
        "labelme": lambda: globox.AnnotationSet.from_labelme(tmp_path),
    }[form]()
    assert len(read) == 2
    for each in written:
        found = read[each.name.replace("/", "_").replace(".png", ".jpg")]
        assert tuple(found.image_size) == (WIDTH, HEIGHT)
        shift = 1 if form == "voc" else 0  # globox keeps the counting from 1
        ends = [(b.label, Box(round(b.xmin) - shift, round(b.ymin) - shift, round(b.xmax), round(b.ymax)))
                for b in found.boxes]  # fmt: skip
        assert sorted(ends, key=str) == sorted(told(each), key=str)
