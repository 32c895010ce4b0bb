import cv2
import numpy as np
import pytest

from mekiki.demo import BadFolder
from mekiki.demo.boxes import plan_test_images
from mekiki.demo.source import Photo, read_folder, read_pixels, read_truth, render_labelled, render_source


def fill(folder, label, count, suffix=".png"):
    folder = folder / label
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}{suffix}"), np.full((8, 8, 3), (255, 0, 0), np.uint8))


def photos(**counts) -> tuple[Photo, ...]:
    return tuple(
        Photo(f"test/{label}/{n}", None, label, "test") for label, count in counts.items() for n in range(count)
    )


def test_rendered_parts_are_read_like_a_users_folder(tmp_path):
    source = render_source(tmp_path, 25, lambda _done, _total: None)
    assert len(source.train) == 15
    assert {photo.label for photo in source.test} > {"good", "scratch"}
    bad = [photo for photo in source.test if photo.label != "good"]
    for photo in bad:
        pixels = read_pixels(photo.path)
        assert read_truth(photo, pixels.shape).shape == pixels.shape[:2]
    assert all(photo.truth is None for photo in source.train)


def test_a_count_too_small_to_learn_from_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 15, not 3"):
        render_source(tmp_path, 3, lambda _done, _total: None)


def test_labelled_parts_come_with_true_boxes_but_bare_tables_without(tmp_path):
    labelled = render_labelled(tmp_path, 8, lambda _done, _total: None)
    with_part = {photo.item_id for photo in labelled.photos if photo.label != "empty"}
    assert set(labelled.boxes) == with_part
    assert len(labelled.photos) == 8


def test_jpegs_and_unknown_files_are_told_apart(tmp_path):
    fill(tmp_path / "train", "good", 8, ".JPG")
    fill(tmp_path / "test", "bad", 1)
    (tmp_path / "train/good/notes.txt").write_text("not an image")
    assert len(read_folder(tmp_path).train) == 8


@pytest.mark.parametrize(("train", "test", "named"), [(0, 1, "train"), (3, 1, "holds 3 images"), (8, 0, "test")])
def test_a_folder_of_another_layout_is_refused_with_what_is_missing(tmp_path, train, test, named):
    fill(tmp_path / "train", "good", train)
    fill(tmp_path / "test", "bad", test)
    with pytest.raises(BadFolder, match=named):
        read_folder(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BadFolder, match="not a folder"):
        read_folder(tmp_path / "nowhere")


def test_colours_are_read_in_the_order_red_green_blue(tmp_path):
    fill(tmp_path, "good", 1)
    assert read_pixels(tmp_path / "good/0.png")[0, 0].tolist() == [0, 0, 255]


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(BadFolder, match="no image"):
        read_pixels(tmp_path / "a.png")


def test_no_image_both_teaches_and_gets_a_box():
    task, reason = plan_test_images("parts", photos(good=10, bad=9, rare=2))
    assert reason == ""
    assert not set(task.taught.item_ids) & set(task.boxed.item_ids)
    assert len(task.taught.item_ids) == 5 + 5
    assert {name.split("/")[1] for name in task.boxed.item_ids} == {"bad"}


@pytest.mark.parametrize("counts", [{"good": 20}, {"good": 20, "bad": 3}, {"bad": 20}])
def test_with_a_single_label_there_are_no_boxes_and_the_reason_is_given(counts):
    task, reason = plan_test_images("parts", photos(**counts))
    assert task is None
    assert "two labels" in reason
