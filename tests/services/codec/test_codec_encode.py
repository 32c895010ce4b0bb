import json
from dataclasses import replace

import av
import numpy as np
import pytest
from codec_parts import PAPER, draw_parts

from services.codec import encode, video_encode
from services.codec.changes import Change, NewItem
from services.codec.encode import Encoder
from services.codec.encoding import Encodings
from services.codec.model import Codec
from services.codec.notes import Notes
from services.codec.options import Options, fill_options, pack_mask, unpack_mask
from services.codec.prepare import widen
from services.codec.reading import Selection
from services.runtime.errors import Cancelled, DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.runtime.manifest import ManifestLog

OPTIONS = Options(
    background="contrast",
    alignment="pose",
    transform="rigid",
    blank_background=True,
    crf=20,
    gop=4,
    reference="first",
    reference_item_id="",
    reference_splits=(),
    mask_margin=-1,
    categories="one",
)


class Recorder:
    """A progress that remembers, and can stop the work after so many reports."""

    def __init__(self, stop_after=10**9):
        self.reports, self.notes, self.stop_after = [], None, stop_after

    def report(self, phase, done, total):
        if len(self.reports) >= self.stop_after:
            raise Cancelled("stopped by the test")
        self.reports.append((phase, done, total))

    def save(self, notes):
        self.notes = notes

    def load(self):
        return self.notes


@pytest.fixture
def codec(store, tmp_path):
    codec = Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])
    codec.datasets.create("parts")
    pictures = draw_parts(10)
    items = [NewItem(f"part-{n}", picture, 1, split="train" if n < 8 else "test") for n, picture in enumerate(pictures)]
    stranger = np.full((200, 200), PAPER, np.uint8)
    stranger[80:120, 80:120] = 40
    codec.datasets.append("parts", [*items, NewItem("stranger", stranger, 1, split="train")])
    return codec


def make(codec, store, progress=None, options=OPTIONS, every_s=1e9):
    encoder = Encoder(codec.datasets, store, progress or Recorder(), 2, every_s)
    return encoder.encode("parts", options, codec.open_remover(options.background))


def read_prepared(codec, **selection):
    found = codec.find_items("parts", Selection(**selection), prepared=True)
    return {item.item_id: found.reader.read(item) for item in found.items}


def test_an_encoding_holds_every_item_alike_and_names_the_stranger(codec, store):
    record = make(codec, store)
    read = read_prepared(codec)
    assert (record.encoding_id, record.item_count, len(read)) == ("prepared-1", 11, 11)
    assert [item.item_id for item in record.unaligned] == ["stranger"]
    assert record.unaligned[0].reason
    aligned = [one.pixels.astype(int) for name, one in read.items() if name != "stranger"]
    [kind] = record.categories
    assert all(pixels.shape == (kind.height, kind.width) for pixels in aligned)
    assert max(np.abs(pixels - aligned[0]).mean() for pixels in aligned) < 8
    assert all(one.alignment.aligned for name, one in read.items() if name != "stranger")


def test_defaults_are_filled_in(codec, store):
    record = make(codec, store)
    assert record.options.reference_item_id == "part-0"
    assert record.options.reference_splits == ("train",)
    assert record.options.mask_margin == 2
    assert record.dataset_version == 2


def test_a_new_image_is_prepared_as_the_stored_one_was(codec, store):
    record = make(codec, store, options=replace(OPTIONS, crf=4))
    snapshot = codec.datasets.open("parts")
    stored = read_prepared(codec)["part-9"]
    found, preparer = codec.find_preparer("parts", record.encoding_id)
    _, fresh = preparer.prepare(codec.datasets.read_pixels(snapshot, snapshot.items["part-9"]))
    assert found == record
    assert np.allclose(fresh.alignment.affine, stored.alignment.affine)
    assert np.abs(fresh.image.astype(int) - stored.pixels).mean() < 1.5


def test_the_union_comes_from_the_reference_splits_alone(codec, store, monkeypatch):
    united = []
    unite = Notes.unite
    monkeypatch.setattr(Notes, "unite", lambda notes, name, mask: united.append(1) or unite(notes, name, mask))
    make(codec, store)
    assert len(united) == 8


@pytest.mark.parametrize("stop_after", [0, 4, 11, 14, 19])
def test_a_successor_goes_on_where_a_lost_worker_stopped(codec, store, monkeypatch, stop_after):
    monkeypatch.setattr(encode, "FILE_FRAMES", 4)
    whole = make(codec, store)
    progress = Recorder(stop_after)
    with pytest.raises(Cancelled):
        make(codec, store, progress, every_s=0)
    kept = Notes.from_bytes(progress.notes) if progress.notes else Notes(2)
    progress.reports, progress.stop_after = [], 10**9
    record = make(codec, store, progress, every_s=0)
    aligned_again = sum(phase == "aligning images" for phase, _, _ in progress.reports)
    assert aligned_again == 11 - kept.seen
    assert record.item_count == 11
    assert record.unaligned == whole.unaligned
    assert record.stored_bytes == whole.stored_bytes
    assert len(read_prepared(codec)) == 11


def test_the_same_operation_twice_makes_one_encoding(codec, store):
    progress = Recorder()
    assert make(codec, store, progress) == make(codec, store, progress)
    assert len(codec.datasets.open("parts").body["encodings"]) == 1


def test_items_that_came_while_it_ran_are_not_in_it(codec, store):
    class Appending(Recorder):
        def report(self, phase, done, total):
            if not self.reports:
                codec.datasets.append("parts", [NewItem("late", draw_parts(1, 50)[0], 1)])
            super().report(phase, done, total)

    record = make(codec, store, Appending())
    assert record.item_count == 11
    found = codec.find_items("parts", Selection(item_ids=("late",)), prepared=True)
    with pytest.raises(FailedPrecondition, match="'late' is not in encoding 'prepared-1'"):
        found.reader.read(found.items[0])


def test_a_damaged_item_is_left_out_and_reported(codec, store):
    snapshot = codec.datasets.open("parts")
    item = snapshot.items["part-5"]
    index = codec.datasets.segments(snapshot).read_index(item.place.segment)
    key = f"{snapshot.folder}/segments/{index.file}"
    data = bytearray(store.get(key))
    data[index.video.find_gop(item.place.frame).start + 9] ^= 1
    store.put(key, bytes(data))
    record = make(codec, store)
    assert record.item_count == 10
    assert [item.item_id for item in record.unaligned] == ["part-5", "stranger"]
    assert "damaged" in record.unaligned[0].reason


def failure_of(reader, item):
    try:
        reader.read(item)
    except DataLoss as error:
        return error


def test_a_damaged_frame_costs_its_gop_and_no_more(codec, store):
    record = make(codec, store)
    snapshot = codec.datasets.open("parts")
    items = codec.encodings.list_items(snapshot, record)
    victim = items["part-3"]
    index = codec.encodings.segments(snapshot, record).read_index(victim.place.segment)
    gop = index.video.find_gop(victim.place.frame)
    key = f"{snapshot.folder}/encodings/{record.token}/{index.file}"
    data = bytearray(store.get(key))
    data[gop.start + 9] ^= 1
    store.put(key, bytes(data))
    found = codec.find_items("parts", Selection(), prepared=True)
    lost = {item.item_id: error for item in found.items if (error := failure_of(found.reader, item))}
    sharing = {name for name, one in items.items() if index.video.find_gop(one.place.frame) == gop}
    assert lost.keys() == sharing
    assert all(repr(name) in error.message for name, error in lost.items())
    assert len(lost) == 4


def test_reading_everything_decodes_every_gop_once(codec, store, monkeypatch):
    record = make(codec, store)
    decoded = []
    segments = codec.encodings.segments(codec.datasets.open("parts"), record)
    read_gop = segments.read_gop
    monkeypatch.setattr(segments, "read_gop", lambda segment, gop: decoded.append(gop.first) or read_gop(segment, gop))
    assert len(read_prepared(codec)) == 11
    assert sorted(decoded) == [0, 4, 8]


@pytest.mark.parametrize(("failures", "succeeds"), [(2, True), (3, False)])
def test_an_encoder_that_fails_now_and_then_is_asked_again(codec, store, monkeypatch, failures, succeeds):
    left = [av.error.PatchWelcomeError(1, "not yet implemented")] * failures
    encode_frames = video_encode._encode

    def fail(*args):
        if left and args[2] == "libx265":
            raise left.pop()
        return encode_frames(*args)

    monkeypatch.setattr(video_encode, "_encode", fail)
    if succeeds:
        assert make(codec, store).item_count == 11
    else:
        with pytest.raises(Unavailable, match=r"frames of .* pixels: not yet implemented"):
            make(codec, store)


def test_an_unknown_encoding_is_not_found_and_none_at_all_is_said(codec, store):
    with pytest.raises(FailedPrecondition, match="call EncodeDataset"):
        codec.find_items("parts", Selection(), prepared=True)
    make(codec, store)
    with pytest.raises(NotFound, match="prepared-7"):
        codec.find_preparer("parts", "prepared-7")


def test_plain_hevc_without_background_or_alignment(codec, store):
    record = make(codec, store, options=replace(OPTIONS, background="none", alignment="none", crf=10))
    [kind] = record.categories
    assert (kind.width, kind.height, kind.pictures, record.unaligned) == (200, 200, {}, ())
    snapshot = codec.datasets.open("parts")
    original = codec.datasets.read_pixels(snapshot, snapshot.items["part-1"])
    assert np.abs(read_prepared(codec)["part-1"].pixels.astype(int) - original).mean() < 3


def give(mask, **changes):
    return replace(OPTIONS, reference_item_id="part-0", mask_png=pack_mask(mask), **changes)


def find_part(codec):
    """Where the first part is, widened a little: parts differ."""
    snapshot = codec.datasets.open("parts")
    pixels = codec.datasets.read_pixels(snapshot, snapshot.items["part-0"])
    return widen(codec.open_remover("contrast").find_part(pixels), 6)


def test_a_given_mask_is_kept_instead_of_the_union(codec, store):
    part = find_part(codec)
    frame = np.zeros_like(part)
    frame[10:190, 10:190] = True
    sizes = {}
    for name, mask in (("part", part), ("frame", frame)):
        record = make(codec, store, options=give(mask))
        assert unpack_mask(record.options.mask_png).tolist() == mask.tolist()
        assert record.options.mask_margin == 0
        snapshot = codec.datasets.open("parts")
        [kept] = codec.encodings.read_masks(snapshot, record)
        sizes[name] = kept.sum()
        assert abs(kept.sum() - mask.sum()) < 0.03 * mask.sum()
    assert sizes["part"] < sizes["frame"] / 2


def test_a_mask_that_would_cut_a_part_is_refused_with_the_items_name(codec, store):
    part = find_part(codec)
    half = part.copy()
    half[:, 100:] = False
    with pytest.raises(FailedPrecondition, match=r"would cut the part of item 'part-\d' by \d+\.\d% of its area"):
        make(codec, store, options=give(half))
    assert make(codec, store, options=give(half, mask_margin=300)).item_count == 11  # widened it keeps everything


@pytest.mark.parametrize(
    ("mask", "changes", "complaint"),
    [
        (np.ones((200, 200), bool), {"reference_item_id": ""}, "must come with reference_item_id"),
        (np.ones((100, 200), bool), {}, "must have 200 x 200 pixels as item 'part-0', has 200 x 100"),
        (np.zeros((200, 200), bool), {}, "is empty"),
        (np.ones((200, 200), bool), {"blank_background": False}, "blank_background is false"),
    ],
)
def test_a_mask_that_fits_nothing_is_refused(codec, mask, changes, complaint):
    with pytest.raises(InvalidArgument, match=complaint):
        fill_options(codec.datasets.open("parts"), replace(give(mask), **changes))


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        ({"reference_item_id": "nobody"}, NotFound, "'nobody'"),
        ({"reference_splits": ("validation",)}, FailedPrecondition, "validation"),
        ({"background": "none"}, InvalidArgument, "AKAZE or NONE"),
    ],
)
def test_options_that_cannot_be_met_are_refused(codec, changes, error, complaint):
    options = replace(OPTIONS, **changes)
    with pytest.raises(error, match=complaint):
        fill_options(codec.datasets.open("parts"), options)


def test_an_empty_data_set_has_nothing_to_encode(codec):
    codec.datasets.create("empty")
    with pytest.raises(FailedPrecondition, match="no item"):
        fill_options(codec.datasets.open("empty"), OPTIONS)


def test_a_data_set_deleted_meanwhile_stays_deleted(codec, store):
    class Deleting(Recorder):
        def report(self, phase, done, total):
            if phase == "encoding video" and done == total:
                codec.datasets.delete("parts")
                codec.datasets.create("parts")

    with pytest.raises(NotFound):
        make(codec, store, Deleting())
    assert codec.datasets.open("parts").body["encodings"] == []


def test_records_survive_the_way_through_the_store(codec, store):
    record = make(codec, store)
    assert Encodings(store, codec.datasets).find(codec.datasets.open("parts"), "prepared-1") == record


def test_a_successor_that_comes_so_late_that_a_sweep_may_have_been_there_begins_again(codec, store, monkeypatch):
    progress = Recorder(stop_after=14)
    with pytest.raises(Cancelled):
        make(codec, store, progress, every_s=0)
    notes = json.loads(progress.notes)
    progress.notes = json.dumps({**notes, "saved_s": notes["saved_s"] - codec.datasets.grace_s - 1}).encode()
    progress.reports, progress.stop_after = [], 10**9
    record = make(codec, store, progress)
    assert record.token != notes["token"]
    assert sum(phase == "aligning images" for phase, _, _ in progress.reports) == 11
    assert len(read_prepared(codec)) == 11


def test_a_successor_whose_version_was_swept_begins_again_with_the_newest(codec, store, tmp_path):
    progress = Recorder(stop_after=4)
    with pytest.raises(Cancelled):
        make(codec, store, progress, every_s=0)
    [chunk] = codec.datasets.open("parts").body["chunks"]
    codec.datasets.update("parts", [Change("part-0", group="monday")])
    for ending in ("json", "copy"):
        store.delete(f"{codec.datasets.open('parts').folder}/{chunk.replace('json', ending)}")
    progress.stop_after = 10**9
    fresh = Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])
    assert make(fresh, store, progress).dataset_version == 3
    assert len(read_prepared(fresh)) == 11


def test_what_was_published_is_returned_however_late_the_successor_comes(codec, store):
    progress = Recorder()
    record = make(codec, store, progress)
    progress.notes = json.dumps({**json.loads(progress.notes), "saved_s": 0}).encode()
    assert make(codec, store, progress) == record
    assert len(codec.datasets.open("parts").body["encodings"]) == 1
