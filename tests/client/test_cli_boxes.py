"""Folders of images with boxes, as Pascal VOC and COCO have them."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from mekiki import AnnotationState, Box
from mekiki.cli.folder import read_folder
from tests.conftest import ROOT

STEEL = Path(os.environ.get("MEKIKI_TEST_DATA", ROOT.parent / "shared" / "data")) / "steel"


def write(path, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path)
    return path


def voc(path, *objects, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    told = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, a, b, c, d in objects
    )
    path.write_text(f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{told}</annotation>")


def read(folder):
    found = read_folder(folder)
    return found, {file.item_id: file for file in found.files}


def boxes(file):
    return [(note.label, note.box) for note in file.boxes]


def test_the_layout_of_pascal_voc_is_read_with_boxes_labels_and_splits(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / f"JPEGImages/{name}.png")
    write(tmp_path / "SegmentationClass/a.png")
    voc(tmp_path / "Annotations/a.xml", ("nut", 1, 1, 10, 20), ("bolt", 5, 5, 60, 40), ("bolt", 2, 2, 3, 3))
    voc(tmp_path / "Annotations/b.xml")
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("b -1\n")
    (tmp_path / "ImageSets/Main/trainval.txt").write_text("a\nb\n")
    found, files = read(tmp_path)
    assert list(files) == [f"JPEGImages/{name}.png" for name in "abc"]
    first, second, third = files.values()
    assert boxes(first) == [("nut", Box(0, 0, 10, 20)), ("bolt", Box(4, 4, 60, 40)), ("bolt", Box(1, 1, 3, 3))]
    assert {note.state for note in first.boxes} == {AnnotationState.ACCEPTED}
    assert [file.labels for file in (first, second, third)] == [("bolt", "nut"), (), ()]
    assert [file.split for file in (first, second, third)] == ["train", "validation", ""]
    assert found.left_out == 0


def test_labels_of_folders_go_before_those_of_boxes(tmp_path):
    write(tmp_path / "train/dent/a.png")
    voc(tmp_path / "annotations/a.xml", ("scratch", 1, 1, 9, 9))
    found, files = read(tmp_path)
    assert files["train/dent/a.png"].labels == ("dent",)
    assert len(files["train/dent/a.png"].boxes) == 1
    assert found.ignored == ()


def coco(images, annotations):
    categories = [{"id": 3, "name": "nut"}, {"id": 7, "name": "bolt"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def test_the_layout_of_coco_is_read_with_boxes_labels_and_splits(tmp_path):
    write(tmp_path / "train2017/000.png")
    write(tmp_path / "val2017/000.png")
    write(tmp_path / "val2017/001.png")
    image = {"id": 1, "file_name": "train2017/000.png", "width": 60, "height": 40}
    notes = [
        {"image_id": 1, "category_id": 7, "bbox": [10.4, 5.6, 20, 10]},
        {"image_id": 1, "category_id": 3, "bbox": [50, 30, 30, 30]},  # beyond the image: cut
        {"image_id": 1, "category_id": 3, "bbox": [5, 5, 0, 9]},
        {"image_id": 1, "category_id": 3, "bbox": [1, 1, 30, 30], "iscrowd": 1},
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text(coco([image], notes))
    others = [{"id": n, "file_name": f"val2017/00{n}.png"} for n in (0, 1)]
    (tmp_path / "annotations/instances_val2017.json").write_text(
        coco(others, [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9]}])
    )
    (tmp_path / "annotations/captions.json").write_text("[1, 2]")
    found, files = read(tmp_path)
    trained = files["train2017/000.png"]
    assert boxes(trained) == [("bolt", Box(10, 5, 31, 16)), ("nut", Box(50, 30, 60, 40))]
    assert (trained.labels, trained.split) == (("bolt", "nut"), "train")
    assert (files["val2017/000.png"].labels, files["val2017/000.png"].split) == ((), "validation")
    assert boxes(files["val2017/001.png"]) == [("nut", Box(0, 0, 9, 9))]
    assert found.left_out == 2


def test_coco_may_name_images_without_their_folder(tmp_path):
    write(tmp_path / "images/7.png")
    notes = [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}]
    (tmp_path / "labels.json").write_text(coco([{"id": 1, "file_name": "7.png"}], notes))
    _, files = read(tmp_path)
    assert boxes(files["images/7.png"]) == [("bolt", Box(1, 2, 4, 6))]
    assert files["images/7.png"].labels == ("bolt",)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.xml", "<annotation><object></annotation>", "a.xml: is no Pascal VOC annotation"),
        ("a.xml", "<annotation><object><name>x</name></object></annotation>", "an object has no bndbox/xmin"),
        ("a.json", "{", "a.json: is no JSON"),
        ("a.json", coco([{"id": 1}], []), "a.json: is no COCO file .*file_name"),
        ("a.json", coco([], [{"image_id": 1, "category_id": 99, "bbox": [1, 1, 1, 1]}]), "is no COCO file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, text, complaint):
    write(tmp_path / "a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / name).write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_folder(tmp_path)


@pytest.mark.skipif(not STEEL.is_dir(), reason=f"{STEEL} does not exist")
def test_steel_with_its_boxes():
    found, files = read(STEEL)
    assert len(files) == 720
    assert found.left_out == 0
    assert all(file.boxes and file.split in ("train", "test") for file in files.values())
    assert (
        sum(file.boxes[0].label.replace("_", "-") in file.labels[0].replace("_", "-") for file in files.values()) > 600
    )
