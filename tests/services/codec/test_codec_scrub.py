from dataclasses import replace

import numpy as np
import pytest
from codec_parts import draw_parts
from test_codec_encode import OPTIONS, Recorder

from services.codec.changes import NewItem
from services.codec.encode import Encoder
from services.codec.model import Codec
from services.codec.reading import Selection
from services.codec.scrub import Scrubber
from services.runtime.errors import Cancelled, DataLoss, MekikiError
from services.runtime.manifest import ManifestLog
from services.runtime.sealed import copy_of, seal, unseal


@pytest.fixture
def open_model(store, tmp_path):
    return lambda: Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])


@pytest.fixture
def codec(store, open_model):
    codec = open_model()
    codec.datasets.create("parts")
    pictures = draw_parts(6)
    mask = np.zeros(pictures[0].shape, np.uint8)
    mask[90:110, 80:120] = 255
    items = [NewItem(f"part-{n}", one, 1, labels=("bolt",), mask=mask) for n, one in enumerate(pictures)]
    deep = [NewItem("deep", pictures[0].astype(np.uint16) * 200, 1), NewItem("tiny", pictures[0][:9, :9], 1)]
    codec.datasets.append("parts", [*items, *deep])
    options = replace(OPTIONS, reference_item_id="part-0")
    Encoder(codec.datasets, store, Recorder(), 2).encode("parts", options, codec.open_remover("contrast"))
    return codec


def scrub(codec, store, progress=None):
    return Scrubber(codec.datasets, codec.encodings, store, progress or Recorder(), 2).scrub("parts")


def list_files(store):
    """What is read of a data set: without what older versions left."""
    newest = max(key for key in store.list("datasets/parts/log") if key.endswith(".json"))
    others = [key for key in store.list("datasets/parts") if "/log/" not in key]
    return [newest, copy_of(newest), *(key for key in others if not key.endswith("hint"))]


def damage(store, key, random):
    """One bit flips, or the end is cut off."""
    data = bytearray(store.get(key))
    if random.random() < 0.1:
        data = data[: random.integers(len(data))]
    else:
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    store.put(key, bytes(data))


def read_everything(codec):
    """Returns pixels by form and item, with the error where there is one."""
    found = {}
    for prepared in (False, True):
        asked = codec.find_items("parts", Selection(), prepared=prepared)
        for item in asked.items:
            try:
                found[prepared, item.item_id] = asked.reader.read(item).pixels
            except MekikiError as error:
                found[prepared, item.item_id] = error
            if not prepared:
                try:
                    found["mask", item.item_id] = asked.read_mask(item)
                except MekikiError as error:
                    found["mask", item.item_id] = error
    return found


def test_a_whole_data_set_has_no_damage(codec, store, open_model):
    findings = scrub(open_model(), store)
    assert (findings.item_count, findings.damages, findings.mended_count) == (8, (), 0)
    assert findings.version == codec.datasets.open("parts").number


def test_no_damage_to_any_file_goes_unnoticed(codec, store, open_model):
    """What is read is what was written, or an error that names the item; and the scrub tells, or mends, all of it."""
    random = np.random.default_rng(0)
    before = read_everything(codec)
    for key in list_files(store):
        whole = store.get(key)
        for _ in range(6):
            damage(store, key, random)
            if store.get(key) != whole:
                check(store, key, open_model, before)
            for name in {key, key.replace(".copy", ".json")}:
                store.put(name, whole if name == key else store.get(name))


def check(store, key, open_model, before):
    if key.endswith(("record.json", "items.json.gz")):  # they have no copy: the encoding can be made again
        with pytest.raises(DataLoss, match="of encoding 'prepared-1' is damaged"):
            read_everything(open_model())
        after = {}
    else:
        after = read_everything(open_model())
    for name, value in after.items():
        if isinstance(value, MekikiError):
            assert repr(name[1]) in value.message, key
        else:
            assert np.array_equal(value, before[name]), key
    findings = scrub(open_model(), store)
    assert findings.damages or findings.mended_count == 1, key
    lost = {name[1] for name, value in after.items() if isinstance(value, MekikiError)}
    assert lost <= {found.item_id for found in findings.damages}, key


def test_lists_are_mended_from_their_copies(codec, store, open_model):
    sealed = [key for key in list_files(store) if key.endswith((".json", ".copy")) and "/encodings/" not in key]
    assert len(sealed) >= 8
    for number, key in enumerate(sorted(sealed)):
        if number % 2:  # a list, or its copy
            store.put(key, b"")
    assert scrub(open_model(), store).mended_count == len(sealed) // 2
    assert scrub(open_model(), store).mended_count == 0


def test_a_scrub_can_be_stopped(codec, store):
    with pytest.raises(Cancelled):
        scrub(codec, store, Recorder(stop_after=3))


def test_a_seal_is_broken_by_any_change_that_matters():
    sealed = seal({"a": [1, 2.5, "x"], "b": None})
    assert unseal(sealed) == {"a": [1, 2.5, "x"], "b": None}
    for bit in range(8 * len(sealed)):
        data = bytearray(sealed)
        data[bit // 8] ^= 1 << bit % 8
        try:
            assert unseal(bytes(data)) == unseal(sealed)
        except ValueError:
            continue
