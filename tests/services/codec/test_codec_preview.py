from dataclasses import replace

import numpy as np
import pytest
from codec_parts import draw_parts
from test_codec_encode import OPTIONS, Recorder

from services.codec.changes import NewItem
from services.codec.model import Codec
from services.codec.preview import Wanted, preview
from services.codec.reading import Selection
from services.runtime.errors import NotFound
from services.runtime.manifest import ManifestLog

NAMES = tuple(f"part-{n}" for n in range(6))


@pytest.fixture
def codec(store, tmp_path):
    codec = Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])
    codec.datasets.create("parts")
    items = [
        NewItem(name, part, 1, labels=("ab"[n % 2],))
        for n, (name, part) in enumerate(zip(NAMES, draw_parts(6), strict=True))
    ]
    codec.datasets.append("parts", items)
    yield codec
    codec.close()


def read(codec):
    found = codec.find_items("parts", Selection(), prepared=True)
    return {item.item_id: found.reader.read(item).pixels for item in found.items}


@pytest.mark.parametrize("categories", ["one", "label"])
def test_at_the_encodings_own_rate_a_preview_of_all_shows_just_what_it_holds(codec, categories):
    codec.encode("parts", replace(OPTIONS, categories=categories), Recorder(), 2)
    held = read(codec)
    shown = {frame.item_id: frame for frame in preview(codec, Wanted("parts", "", NAMES, OPTIONS.crf))}
    assert shown.keys() == held.keys()
    assert all(np.array_equal(shown[name].pixels, held[name]) for name in NAMES)


def test_a_higher_rate_factor_takes_fewer_bytes_and_keeps_nothing(codec, store):
    codec.encode("parts", OPTIONS, Recorder(), 2)
    before = sorted(store.list(""))
    sizes = {}
    for crf in (10, 40):
        frames = list(preview(codec, Wanted("parts", "prepared-1", NAMES[:4], crf)))
        assert sorted(frame.item_id for frame in frames) == list(NAMES[:4])
        assert all(frame.frame_bytes > 0 for frame in frames)
        sizes[crf] = sum(frame.frame_bytes for frame in frames)
    assert sizes[40] < sizes[10] / 2
    assert sorted(store.list("")) == before


def test_an_item_that_is_not_in_the_encoding_is_refused(codec):
    codec.encode("parts", OPTIONS, Recorder(), 2)
    codec.datasets.append("parts", [NewItem("late", draw_parts(1)[0], 1)])
    with pytest.raises(NotFound, match="'late'"):
        list(preview(codec, Wanted("parts", "", ("part-0", "late"), 30)))
