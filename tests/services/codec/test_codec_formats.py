"""A stranger reads a data set as docs/formats.md says: JSON, PNG, ZIP, and plain ffmpeg. Nothing of ours decodes."""

import gzip
import hashlib
import json
import subprocess
import zipfile
from dataclasses import replace

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from codec_parts import draw_parts
from test_codec_encode import OPTIONS, Recorder

from services.codec.changes import NewItem
from services.codec.compact import Compactor
from services.codec.encode import Encoder
from services.codec.model import Codec
from services.runtime.manifest import ManifestLog

FORMATS = {
    (1, 8): "gray",
    (3, 8): "rgb24",
    (4, 8): "rgba",
    (1, 16): "gray16le",
    (3, 16): "rgb48le",
    (4, 16): "rgba64le",
}


def noise(shape, dtype, seed):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture
def root(store, tmp_path):
    """The folder of a data set with images of every kind, some compacted, and a prepared version."""
    codec = Codec(store, lambda prefix: ManifestLog(store, prefix, has_copies=True), [tmp_path])
    codec.datasets.create("parts")
    kinds = [((40, 48, 3), np.uint8), ((40, 48, 4), np.uint8), ((40, 48), np.uint16), ((40, 48, 3), np.uint16)]
    kinds += [((40, 48, 4), np.uint16), ((9, 7), np.uint8)]
    parts = [NewItem(f"part-{n}", one, 1, labels=("bolt",)) for n, one in enumerate(draw_parts(5))]
    codec.datasets.append("parts", parts)
    Compactor(codec.datasets, Recorder(), 1).compact("parts")
    late = [
        NewItem(f"late-{n}-{k}", noise(shape, dtype, 10 * n + k), 1)
        for n, (shape, dtype) in enumerate(kinds)
        for k in (0, 1)
    ]
    codec.datasets.append("parts", late[:6])
    codec.datasets.append("parts", late[6:])
    options = replace(OPTIONS, reference_item_id="part-0", crf=4)
    Encoder(codec.datasets, store, Recorder(), 1).encode("parts", options, codec.open_remover("contrast"))
    [folder] = tmp_path.rglob("codec/datasets/parts")
    return folder


def read_items(root):
    manifest = json.loads(max((root / "log").glob("*.json")).read_text())["body"]
    folder = root / manifest["incarnation"]
    chunks = [json.loads((folder / chunk).read_text()) for chunk in manifest["chunks"]]
    return folder, manifest, [item for chunk in chunks for item in chunk["items"]]


def decode(path, pixel_format):
    """All frames of a video, one after another, as ffmpeg writes them."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        path,
        "-f",
        "rawvideo",
        "-pix_fmt",
        pixel_format,
        "-",
    ]
    return subprocess.run([str(word) for word in command], check=True, capture_output=True).stdout


def read_raw(folder, item):
    """An item's raw pixels, row by row, RGB(A), 16 bits in little endian."""
    place, layout = item["place"], (item["channels"], item["bit_depth"])
    index = json.loads((folder / "segments" / f"{place['segment']}.json").read_text())
    path = folder / "segments" / index["file"]
    if path.suffix == ".mp4":
        size = item["width"] * item["height"] * item["channels"] * item["bit_depth"] // 8
        return decode(path, FORMATS[layout])[place["frame"] * size :][:size]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            data = archive.read(sorted(archive.namelist())[place["frame"]])
    else:
        data = path.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        pixels = pixels[..., 0] if item["channels"] == 1 else pixels
    return pixels.tobytes()


def test_every_exact_pixel_is_read_without_us(root):
    folder, _, items = read_items(root)
    assert len(items) == 17
    for item in items:
        assert hashlib.sha256(read_raw(folder, item)).hexdigest() == item["sha256"], item["item_id"]
    endings = {path.suffix for path in (folder / "segments").iterdir()}
    assert {".mp4", ".png", ".json", ".copy"} <= endings


def test_prepared_frames_and_where_they_came_from_are_read_without_us(root):
    folder, manifest, items = read_items(root)
    [entry] = manifest["encodings"]
    encoding = folder / "encodings" / entry["token"]
    record = json.loads((encoding / "record.json").read_text())
    listed = json.loads(gzip.decompress((encoding / "items.json.gz").read_bytes()))
    [kind] = record["categories"]
    mask = cv2.imread(str(encoding / "1-mask.png"), cv2.IMREAD_GRAYSCALE)
    assert mask.shape == (kind["height"], kind["width"])
    known = {item["item_id"]: item for item in items}
    aligned = [row for row in listed["items"] if not row[6]]
    assert {row[0] for row in aligned} >= {f"part-{n}" for n in range(5)}
    for name, _, file, frame, affine, _, _ in aligned:
        raw = decode(encoding / f"{listed['files'][file]}.mp4", "gray")
        size = kind["width"] * kind["height"]
        prepared = np.frombuffer(raw[frame * size :][:size], np.uint8).reshape(kind["height"], kind["width"])
        item = known[name]
        if (item["channels"], item["bit_depth"]) == (1, 8) and item["width"] == 200:
            original = np.frombuffer(read_raw(folder, item), np.uint8).reshape(200, 200)
            matrix = np.array(affine).reshape(2, 3)
            drawn = cv2.warpAffine(original, matrix, (kind["width"], kind["height"]), flags=cv2.INTER_CUBIC)
            assert np.abs(drawn.astype(int) - prepared)[mask > 127].mean() < 3


def test_lists_are_sealed_and_twice_there(root):
    folder, _, _ = read_items(root)
    lists = [*folder.glob("items/*.json"), *folder.glob("segments/*.json"), *root.glob("log/*.json")]
    assert len(lists) > 8
    for path in lists:
        text = path.read_bytes()
        value = json.loads(text)
        seal = value.pop("sha256")
        assert hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest() == seal
        assert path.with_suffix(".copy").read_bytes() == text
