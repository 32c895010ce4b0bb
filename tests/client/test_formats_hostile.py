"""Annotation files from strangers: refused with the file's name and the reason, or read without harm."""

import json

import numpy as np
import pytest
from PIL import Image

from mekiki import Box
from mekiki.cli.datasets import to_new_item
from mekiki.cli.folder import read_folder
from mekiki.formats import guard

BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


def image(path, size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path)
    return path


def voc(ends="<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>", before="", size=""):
    box = f"<object><name>nut</name><bndbox>{ends}</bndbox></object>"
    return f'<?xml version="1.0"?>{before}<annotation>{size}{box}</annotation>'


def cvat(name="a.png", inside=""):
    return f'<annotations><image name="{name}" width="60" height="40">{inside}</image></annotations>'


def coco(name="a.png", **note):
    told = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], **note}
    images = [{"id": 1, "file_name": name}]
    return json.dumps({"images": images, "annotations": [told], "categories": [{"id": 1, "name": "nut"}]})


def labelme(path="a.png", **shape):
    told = {"label": "nut", "shape_type": "rectangle", "points": [[1, 1], [5, 6]], **shape}
    return json.dumps({"shapes": [told], "imagePath": path})


def datumaro(name="a", **note):
    told = {"type": "bbox", "label_id": 0, "bbox": [1, 2, 3, 4], **note}
    categories = {"label": {"labels": [{"name": "nut"}]}}
    return json.dumps({"categories": categories, "items": [{"id": name, "annotations": [told]}]})


def table(*rows, head="image,label,x_min,y_min,x_max,y_max"):
    return "\n".join((head, *rows)) + "\n"


HUGE = "9" * 400
REFUSED = [
    ("annotations/a.xml", voc(before=BOMB), "has a document type"),
    ("annotations/a.xml", voc(before=OUTSIDE), "has a document type"),
    ("annotations.xml", BOMB + cvat(), "has a document type"),
    ("annotations/a.xml", "<a>" * 100 + "</a>" * 100, "nested too deeply"),
    ("annotations/a.xml", voc("<xmin>NaN</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"), "xmin must be a finite"),
    ("annotations/a.xml", voc(f"<xmin>{HUGE}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"), "xmin must be a fin"),
    ("annotations/a.xml", voc(size="<size><width>-6</width><height>4</height></size>"), "must not be negative"),
    ("annotations.xml", cvat("../../a.png"), "lies outside the folder"),
    ("annotations.xml", cvat("/etc/a.png"), "lies outside the folder"),
    ("annotations.xml", cvat("C:\\a.png"), "lies outside the folder"),
    ("annotations.xml", cvat(inside='<box label="" xtl="1" ytl="1" xbr="2" ybr="2"/>'), "a label must have 1 to 255"),
    ("annotations.xml", cvat(inside='<box label="a" xtl="1" ytl="1" xbr="2"/>'), "ybr must be a number"),
    ("annotations.xml", cvat(inside='<box label="a" xtl="1" ytl="1" xbr="2" ybr="3" rotation="9"/>'), "turned boxes"),
    ("annotations.xml", cvat(inside='<polygon label="a" points="1,1;2,2"/>'), "three points or more"),
    (
        "annotations.xml",
        cvat(inside='<mask label="a" left="0" top="0" width="9" height="9" rle="5"/>'),
        "do not add up",
    ),
    (
        "annotations.xml",
        cvat(inside='<mask label="a" width="99999999" height="99999999" rle="1"/>'),
        "a mask has at most",
    ),
    ("a.json", coco("../a.png"), "lies outside the folder"),
    ("a.json", coco("x/../../../a.png"), "lies outside the folder"),
    ("a.json", coco("\\\\host\\share\\a.png"), "lies outside the folder"),
    ("a.json", coco(bbox=[1, 2, float("nan"), 4]), "NaN is no number"),
    ("a.json", coco(bbox=[1, 2, 1e400, 4]).replace("Infinity", "1e999"), "bbox must be a finite"),
    ("a.json", coco(bbox=[1, 2, "x", 4]), "bbox must be a finite"),
    ("a.json", coco(bbox=[1, 2, [], 4]), "bbox must be a number"),
    ("a.json", coco(bbox=[1, 2]), "not enough values"),
    ("a.json", coco(bbox=None), "has no bbox"),
    ("a.json", coco(category_id=[1]), "unhashable"),
    ("a.json", coco(segmentation={"counts": [10**12], "size": [10**6, 10**6]}), "a mask has at most"),
    ("a.json", coco(segmentation={"counts": [-1, 2401], "size": [40, 60]}), "do not add up"),
    ("a.json", coco(segmentation={"counts": "ooooooooooooooooooo", "size": [40, 60]}), "no run lengths"),
    ("a.json", coco(segmentation=[[1, 2, 3]]), "three points or more"),
    ("a.json", coco(attributes={"score": 7}), "score must be 0 to 1"),
    ("a.json", "[" * 100_000, "nested too deeply"),
    ("a.json", coco().replace('"nut"', '"\\ud800"'), "surrogates not allowed"),
    ("a.json", coco().replace('"nut"', f'"{"n" * 300}"'), "a label must have 1 to 255 bytes"),
    ("a.json", coco().replace('"nut"', "[1]"), "a label must be text"),
    ("a.json", coco().replace('"images": [', '"images": [{"id": 1, "file_name": "b.png"}, '), "the same id"),
    ("a.json", coco().replace('"images": [', '"images": [{"id": 2, "file_name": "a.png"}, '), "annotated twice"),
    ("a.json", labelme("../a.png"), "lies outside the folder"),
    ("a.json", labelme("/home/a.png"), "lies outside the folder"),
    ("a.json", labelme(points=[[1, 1]]), "not enough values"),
    ("a.json", labelme(shape_type="mask", mask="AAAA"), "a mask is no PNG"),
    ("a.json", labelme(shape_type="mask", mask=1), "is no LabelMe file"),
    ("annotations/train.json", datumaro("../../a"), "lies outside the folder"),
    ("annotations/train.json", datumaro(label_id=7), "is no Datumaro file"),
    ("annotations/train.json", datumaro(type="mask", rle={"counts": "0", "size": [2, 2]}), "do not add up"),
    ("a.csv", table("../a.png,nut,1,1,2,2"), "lies outside the folder"),
    ("a.csv", table("a.png,nut,1,1,nan,2"), "x_max must be a finite"),
    ("a.csv", table("a.png,nut,1,1,2"), "is no CSV of annotations"),
    ("a.csv", table(f"a.png,{'n' * 200_000},1,1,2,2"), "field larger than"),
]


@pytest.mark.parametrize(("name", "text", "complaint"), REFUSED, ids=range(len(REFUSED)))
def test_it_is_refused_by_name_and_with_the_reason(tmp_path, name, text, complaint):
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as refused:
        read_folder(tmp_path)
    assert str(refused.value).startswith(str(path))
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("names", "line", "complaint"),
    [
        ("names: [nut]", "1 .5 .5 .1 .1", "a class must be 0 to 0"),
        ("names: [nut]", "-1 .5 .5 .1 .1", "a class must be 0 to 0"),
        ("names: [nut]", "0.5 .5 .5 .1 .1", "a class must be 0 to 0"),
        ("names: [nut]", "0 .5 .5 nan .1", "a number must be a finite"),
        ("names: [nut]", "0 .5 .5 .1", "three points or more"),
        ("names: [nut]", "0 .5 .5 .1 .1 7", "a confidence must be 0 to 1"),
        ("names: {0: nut, 2: bolt}", "", "without gaps"),
        ("names: 7", "", "must be a list"),
        ("names: [[nut]]", "", "a label must be text"),
        ("names: !!python/object/apply:os.system [echo]", "", "could not determine a constructor"),
        ("{", "", "is no YOLO data file"),
        ("a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nnames: [nut]", "", "has aliases"),
        ("a: &a [nut, nut]\nnames: [*a, *a]", "", "has aliases"),
    ],
)
def test_yolo_is_refused_by_name_and_with_the_reason(tmp_path, names, line, complaint):
    image(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text(names)
    (tmp_path / "labels/a.txt").write_text(line)
    with pytest.raises(ValueError, match=complaint):
        read_folder(tmp_path)


def test_classes_that_nobody_names_are_asked_for(tmp_path):
    image(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .1 .1")
    with pytest.raises(ValueError, match=r"labels/a.txt: neither data.yaml nor classes.txt in .* names the classes"):
        read_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("nut\n\nbolt\n")
    assert read_folder(tmp_path).files[0].labels == ("nut",)


@pytest.mark.parametrize("name", ["annotations/a.xml", "a.json", "a.csv", "labels/a.txt", "data.yaml", "classes.txt"])
def test_what_is_not_utf_8_is_refused(tmp_path, name):
    image(tmp_path / "a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "zz.yaml").write_text("names: [nut]")
    (tmp_path / name).write_bytes(b"\xff\xfe\x00n")
    with pytest.raises(ValueError, match=f"{name}: is no "):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["annotations/a.xml", "a.json", "a.csv"])
def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch, name):
    image(tmp_path / "a.png")
    (tmp_path / "annotations").mkdir()
    with (tmp_path / name).open("wb") as file:
        file.truncate(guard.BYTE_LIMIT + 1)  # sparse: takes no room
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(ValueError, match=f"{name}: .*536,870,913 bytes, more than"):
        read_folder(tmp_path)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.json").write_text(coco())
    image(tmp_path / "set/a.png")
    (tmp_path / "set/a.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ValueError, match=r"a.json: .*a link that leads out of the folder"):
        read_folder(tmp_path / "set")
    (tmp_path / "set/a.json").unlink()
    (tmp_path / "set/real").mkdir()
    (tmp_path / "set/real/b.json").write_text(coco())
    (tmp_path / "set/a.json").symlink_to(tmp_path / "set/real/b.json")
    (tmp_path / "set/real/b.json").rename(tmp_path / "set/real/b.txt")
    (tmp_path / "set/a.json").unlink()
    (tmp_path / "set/a.json").symlink_to(tmp_path / "set/real/b.txt")
    assert len(read_folder(tmp_path / "set").files[0].boxes) == 1


def test_a_box_that_nobody_can_draw_is_left_out_and_counted_and_one_over_the_rim_is_cut(tmp_path):
    image(tmp_path / "a.png")
    rows = [
        "a.png,nut,-5,-5,10,10",  # over the rim
        "a.png,nut,50,30,1e30,99999999999",
        "a.png,nut,10,10,5,20",  # inverted
        "a.png,nut,10,10,10,20",  # without an area
        "a.png,nut,70,10,80,20",  # beyond
        "a.png,nut,-9,-9,-1,-1",
    ]
    (tmp_path / "a.csv").write_text(table(*rows))
    found = read_folder(tmp_path)
    assert [note.box for note in found.files[0].boxes] == [Box(0, 0, 10, 10), Box(50, 30, 60, 40)]
    assert found.left_out == 4


def test_boxes_for_an_image_of_another_size_are_left_out_and_told(tmp_path):
    image(tmp_path / "a.png", (30, 20))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.xml").write_text(voc(size="<size><width>60</width><height>40</height></size>"))
    found = read_folder(tmp_path)
    assert found.resized == ("a.png",)
    assert found.files[0].boxes == ()


def test_one_name_for_two_images_is_refused(tmp_path):
    image(tmp_path / "x/a.png")
    image(tmp_path / "y/a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.xml").write_text(voc())
    with pytest.raises(ValueError, match=r"annotations/a.xml: 'a' may be x/a.png or y/a.png"):
        read_folder(tmp_path)


def test_two_files_for_one_image_are_refused_unless_its_split_tells(tmp_path):
    for split in ("train", "val"):
        image(tmp_path / f"images/{split}/a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text(coco())
    (tmp_path / "annotations/instances_val.json").write_text(coco(bbox=[5, 5, 5, 5]))
    first, second = read_folder(tmp_path).files
    assert (first.boxes[0].box, first.split) == (Box(1, 2, 4, 6), "train")
    assert (second.boxes[0].box, second.split) == (Box(5, 5, 10, 10), "validation")
    image(tmp_path / "images/a.png")
    with pytest.raises(ValueError, match=r"images/a.png: cannot tell which annotation is meant"):
        read_folder(tmp_path)


def test_other_files_among_the_images_are_passed_over(tmp_path):
    image(tmp_path / "good/a.png")
    for name, text in (("a.json", "{"), ("b.json", "[1]"), ("c.xml", BOMB), ("d.csv", "time,value\n1,2\n"),
                       ("e.txt", "hello"), ("f.yaml", "{")):  # fmt: skip
        (tmp_path / "good" / name).write_text(text)
    (tmp_path / "notes.csv").write_text("who;what\n")
    (tmp_path / "pom.xml").write_text("<project/>")
    (file,) = read_folder(tmp_path).files
    assert (file.labels, file.boxes) == (("good",), ())


def test_a_polygon_is_a_box_and_a_mask_of_its_pixels(tmp_path):
    image(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(labelme(shape_type="polygon", points=[[10, 10], [30, 10], [30, 30], [10, 30]]))
    (file,) = read_folder(tmp_path).files
    assert file.boxes[0].box == Box(10, 10, 30, 30)
    expected = np.zeros((40, 60), bool)
    expected[10:30, 10:30] = True
    assert np.array_equal(to_new_item(file).mask, expected)


def test_layouts_of_roboflow_are_read(tmp_path):
    for split in ("train", "valid"):
        image(tmp_path / "yolo" / split / "images/a.png")
        (tmp_path / "yolo" / split / "labels").mkdir()
        (tmp_path / "yolo" / split / "labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        image(tmp_path / "coco" / split / "a.png")
        (tmp_path / "coco" / split / "_annotations.coco.json").write_text(coco())
        image(tmp_path / "csv" / split / "a.png")
        head = "filename,width,height,class,xmin,ymin,xmax,ymax"
        (tmp_path / "csv" / split / "_annotations.csv").write_text(table("a.png,60,40,nut,15,10,45,30", head=head))
    (tmp_path / "yolo/data.yaml").write_text("names: ['nut']\nnc: 1\n")
    for name, box in (("yolo", Box(15, 10, 45, 30)), ("coco", Box(1, 2, 4, 6)), ("csv", Box(15, 10, 45, 30))):
        files = read_folder(tmp_path / name).files
        assert [(file.split, file.labels, file.boxes[0].box) for file in files] == [
            ("train", ("nut",), box),
            ("validation", ("nut",), box),
        ]
