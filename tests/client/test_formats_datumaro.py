"""Datumaro, which knows nothing of Mekiki, reads what is written and writes what is read. It runs by itself: it is slow
to import and warns of much."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from mekiki.cli.datasets import to_new_item
from mekiki.cli.folder import read_folder
from mekiki.formats import Picture, write_dataset
from tests.client.marked import HEIGHT, WIDTH, pictures

pytestmark = pytest.mark.skipif(importlib.util.find_spec("datumaro") is None, reason="Datumaro is not installed")

SCRIPT = """
import json, sys
from datumaro import Dataset
from datumaro.components.annotation import AnnotationType
read = {}
for folder, form, out, target in json.loads(sys.argv[1]):
    dataset = Dataset.import_from(folder, form)
    if out:
        dataset.export(out, target, save_media=True)
        continue
    labels = dataset.categories()[AnnotationType.label]
    for item in dataset:
        notes = [
            (note.type.name, labels[note.label].name, list(map(float, note.get_bbox())), note.attributes.get("state"))
            for note in item.annotations
        ]
        read.setdefault(form, []).append((item.id, item.subset, item.media.size, notes))
print("\\n" + json.dumps(read))
"""
FORMS = {"voc": "voc_detection", "yolo": "yolo", "coco": "coco", "datumaro": "datumaro", "cvat": "cvat"}


def run(*tasks):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, json.dumps(tasks)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_datumaro_reads_boxes_masks_splits_and_sizes(tmp_path):
    written = pictures(masked=True)
    for form in FORMS:
        write_dataset(form, tmp_path / form, written)
    read = run(*((str(tmp_path / form), name, "", "") for form, name in FORMS.items()))
    for form, name in FORMS.items():
        expected = {expect(each, form) for each in written}
        found = {
            (item, subset, tuple(size), tuple(sorted((kind, label, tuple(box)) for kind, label, box, _ in notes)))
            for item, subset, size, notes in read[name]
            if subset != "trainval"
        }
        assert found == expected if form != "voc" else found == {each for each in expected if each[1]}
        states = {state for *_, notes in read[name] for *_, state in notes}
        assert states == ({"accepted"} if form not in ("voc", "yolo") else {None})


def expect(picture, form):
    notes = []
    for each in picture.marks:
        box = each.annotation.box
        # Of VOC's boxes Datumaro keeps the counting from 1, and the last pixel.
        shift = 1 if form == "voc" else 0
        ends = (box.x_min + shift, box.y_min + shift, box.width - shift, box.height - shift)
        kinds = ("bbox", "mask") if form in ("coco", "datumaro", "cvat") else ("bbox",)
        notes += [(kind, each.annotation.label, tuple(map(float, ends))) for kind in kinds]
    none = {"voc": "", "yolo": "train"}.get(form, "default")
    split = picture.split.replace("validation", "val") or none
    stem = picture.name.replace("/", "_").removesuffix(".png")
    return stem, split, (HEIGHT, WIDTH), tuple(sorted(notes))


def test_what_datumaro_writes_is_read(tmp_path):
    # Not VOC: Datumaro counts its pixels from 0, against VOC's own rule. Its YOLO wants a split, and its COCO calls
    # everything a crowd that has a mask.
    targets = {"yolo": "yolo_ultralytics", "coco": "coco", "datumaro": "datumaro", "cvat": "cvat"}
    written = {form: [each for each in pictures(masked=form in ("datumaro", "cvat")) if each.split] for form in targets}
    for form, each in written.items():
        write_dataset("datumaro", tmp_path / "ours" / form, each)
    run(*((str(tmp_path / "ours" / form), "datumaro", str(tmp_path / form), name) for form, name in targets.items()))
    for form in targets:
        files = {file.path.stem: file for file in read_folder(tmp_path / form).files}
        assert len(files) == len(written[form])
        for each in written[form]:
            compare(form, files[each.name.replace("/", "_").removesuffix(".png")], each)


def compare(form, file, picture):
    told = sorted((mark.annotation.label, str(mark.annotation.box)) for mark in picture.marks)
    assert sorted((note.label, str(note.box)) for note in file.boxes) == told, form
    main = tuple(mark for mark in picture.marks if mark.annotation.label in file.labels[:1])
    expected = Picture(picture.name, picture.pixels, main).draw_mask()
    mask = to_new_item(file).mask
    assert (mask is None) == (expected is None)
    assert expected is None or np.array_equal(mask, expected), form
