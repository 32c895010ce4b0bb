from dataclasses import replace

import cv2
import numpy as np
import pytest
from codec_parts import PAPER, draw_parts
from test_codec_encode import OPTIONS, Recorder

from services.codec.changes import NewItem
from services.codec.encode import Encoder
from services.codec.medoid import choose_medoid, spread
from services.codec.model import Codec
from services.codec.prepare import Placer
from services.codec.reading import Selection
from services.codec.reference import open_reference
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.runtime.manifest import ManifestLog


def draw_washer(seed):
    random = np.random.default_rng(seed)
    picture = np.full((160, 240), PAPER, np.uint8)
    centre = tuple(int(value) for value in random.uniform((100, 70), (140, 90)))
    cv2.circle(picture, centre, 50, 80, -1, cv2.LINE_AA)
    cv2.circle(picture, centre, 22, PAPER, -1, cv2.LINE_AA)
    return np.clip(picture + random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def draw_texture(seed):
    return np.random.default_rng(seed).integers(90, 120, (96, 128, 3), np.uint8)


@pytest.fixture
def codec(store, tmp_path):
    codec = Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])
    codec.datasets.create("mixed")
    kinds = {
        "bolt": draw_parts(6),
        "washer": [draw_washer(n) for n in range(5)],
        "fabric": [draw_texture(n) for n in range(4)],
    }
    codec.datasets.append(
        "mixed",
        [
            NewItem(f"{name}-{n}", picture, 1, labels=(name,))
            for name, pictures in kinds.items()
            for n, picture in enumerate(pictures)
        ],
    )
    return codec


def make(codec, store, **changes):
    options = replace(OPTIONS, reference="medoid", **changes)
    return Encoder(codec.datasets, store, Recorder(), 2).encode("mixed", options, codec.open_remover("contrast"))


def sort_items(codec, record):
    snapshot = codec.datasets.open("mixed")
    return {name: item.category for name, item in codec.encodings.list_items(snapshot, record).items()}


@pytest.mark.parametrize("categories", ["label", "looks"])
def test_every_kind_of_part_has_its_own_reference_frame_and_video(codec, store, categories):
    record = make(codec, store, categories=categories)
    found = sort_items(codec, record)
    by_kind = {kind: {found[name] for name in found if name.startswith(kind)} for kind in ("bolt", "washer", "fabric")}
    assert all(len(names) == 1 for names in by_kind.values())
    assert len(set.union(*by_kind.values())) == len(record.categories) == 3
    assert [kind.item_count for kind in record.categories] == [6, 5, 4]
    frames = {kind.category.reference_item_id.split("-")[0]: (kind.height, kind.width) for kind in record.categories}
    assert frames["fabric"] == (96, 128)
    assert frames["bolt"][0] < frames["bolt"][1]
    assert record.unaligned == ()
    assert {kind.category.reason != "" for kind in record.categories} == {True, False}
    read = codec.find_items("mixed", Selection(), prepared=True)
    for item in read.items:
        one = read.reader.read(item)
        assert one.pixels.shape[:2] == frames[item.labels[0]]
        assert one.category == found[item.item_id]


def test_names_are_labels_or_numbers_by_size(codec, store):
    assert [kind.category.name for kind in make(codec, store, categories="label").categories] == [
        "bolt",
        "washer",
        "fabric",
    ]
    assert [kind.category.name for kind in make(codec, store, categories="looks").categories] == [
        "category-1",
        "category-2",
        "category-3",
    ]


def test_items_of_one_category_are_read_alone(codec, store):
    make(codec, store, categories="label")
    found = codec.find_items("mixed", Selection(category="washer"), prepared=True)
    assert [item.item_id for item in found.items] == [f"washer-{n}" for n in range(5)]
    with pytest.raises(NotFound, match="'nut'"):
        codec.find_items("mixed", Selection(category="nut"), prepared=True)


def test_a_new_image_goes_where_it_aligns_or_where_it_is_told(codec, store):
    record = make(codec, store, categories="label")
    _, preparer = codec.find_preparer("mixed", record.encoding_id)
    for picture, name in ((draw_parts(1, 77)[0], "bolt"), (draw_washer(77), "washer"), (draw_texture(77), "fabric")):
        category, prepared = preparer.prepare(picture)
        assert (category, prepared.alignment.aligned) == (name, True)
    category, prepared = preparer.prepare(draw_washer(78), "bolt")
    assert (category, prepared.alignment.aligned) == ("bolt", False)
    with pytest.raises(NotFound, match="'nut'"):
        preparer.prepare(draw_washer(78), "nut")


def test_few_odd_images_are_no_kind_of_their_own(codec, store):
    odd = np.full((200, 200), PAPER, np.uint8)
    odd[60:140, 90:110] = odd[90:110, 60:140] = 40
    codec.datasets.append("mixed", [NewItem("bolt-odd", odd, 1, labels=("bolt",))])
    record = make(codec, store, categories="looks")
    assert len(record.categories) == 3
    assert [item.item_id for item in record.unaligned] == ["bolt-odd"]


def test_one_reference_for_several_categories_is_refused(codec, store):
    with pytest.raises(InvalidArgument, match="reference_item_id"):
        make(codec, store, categories="looks", reference_item_id="bolt-1")


def test_a_texture_alone_cannot_be_aligned_and_says_what_to_choose(codec, store):
    codec.datasets.create("fabric")
    codec.datasets.append("fabric", [NewItem(f"{n}", draw_texture(n), 1) for n in range(3)])
    encoder = Encoder(codec.datasets, store, Recorder(), 2)
    with pytest.raises(FailedPrecondition, match="background and alignment NONE"):
        encoder.encode("fabric", OPTIONS, codec.open_remover("contrast"))


def medoid_of(pictures):
    return choose_medoid(
        list(pictures), pictures.get, lambda pixels: Placer(open_reference(pixels, None), "none", None)
    )


def test_the_medoid_is_the_one_most_like_the_others():
    shades = {"dark": 10, "grey": 100, "greyer": 104, "also grey": 97, "light": 200}
    pictures = {name: np.full((40, 40), value, np.uint8) for name, value in shades.items()}
    assert medoid_of(pictures) == "grey"


def test_a_damaged_image_is_no_medoid_and_none_is_left_of_none():
    pictures = {"gone": None, "there": np.full((40, 40), 9, np.uint8)}
    assert medoid_of(pictures) == "there"
    assert medoid_of({"gone": None}) is None


def test_a_bad_first_image_does_not_become_the_reference(store, tmp_path):
    codec = Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])
    codec.datasets.create("mixed")
    stranger = np.full((200, 200), PAPER, np.uint8)
    cv2.circle(stranger, (100, 100), 60, 40, -1)
    pictures = [stranger, *draw_parts(6)]
    codec.datasets.append("mixed", [NewItem(f"{n}", picture, 1) for n, picture in enumerate(pictures)])
    record = make(codec, store)
    assert record.options.reference_item_id != "0"
    assert [item.item_id for item in record.unaligned] == ["0"]


def test_values_are_spread_evenly_from_the_first_on():
    assert spread(list(range(100)), 4) == [0, 25, 50, 75]
    assert spread([1, 2], 4) == [1, 2]
