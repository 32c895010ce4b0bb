"""How far prepared images can be compressed before a detector that learns from them judges worse.

The detector is built from frames as they come out of a video, of a sample of the normals, and judges images that were
prepared but not compressed, as a line's are: normals that are left out of its bank, and defects made on them. Every
rate factor is judged by the same images, so what differs is what compression did. Nothing of a test set is looked at.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.types.v1 import types_pb2
from services.anomaly.calibrate import group_items
from services.anomaly.faults import make_fault
from services.anomaly.frame_files import FrameFiles
from services.anomaly.frames import Framing, Placement, narrow, resize
from services.anomaly.intake import to_originals
from services.anomaly.learning import find_category, find_encoding, frame_category, is_aligned, open_model
from services.anomaly.model import Detector, choose_device
from services.anomaly.plan_messages import read_plan
from services.anomaly.rate_search import Point, Trial, Tuned, mean_auroc, measure_loss, search
from services.anomaly.trials import fill_bank
from services.anomaly.tuning_messages import read_crfs
from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.runtime.images import Pixels
from services.runtime.worker import Job

SAMPLE = 240
SEEDS = 3
HELD_OUT = 0.25
LEAST_NORMALS = 16
STRENGTHS = (1, 2, 4, 8, 16)
FOUND = 0.95
"""AUROC without compression from which defects are strong enough: what is hardly found at all says little of loss."""

RAW_SIDE = 2048
"""Longer side at which images are kept as sent: no detector looks at more than half of it."""


@dataclass(frozen=True)
class _Tests:
    """What one seed judges: normals that it leaves out of the bank, and defects."""

    normals: tuple[str, ...]
    defects: tuple[str, ...]


@dataclass(frozen=True)
class _Judged:
    """The scores of one stage, seed by seed, and the bytes of a frame where it was compressed."""

    frame_bytes: float
    trials: tuple[Trial, ...]


class Tuner:
    """Tunes the compression of one data set.

    Args:
        request: with its defaults, see `read_tuning`.
        codec: has the items, prepares and compresses them.
        job: hears how it goes on, and keeps the scores.
    """

    def __init__(self, request: anomaly_pb2.TuneCompressionRequest, codec: mekiki.Client, job: Job) -> None:
        """Raises InvalidArgument for rate factors that the encoding's codec has not."""
        self._request = request
        self._judge = request.judge
        self._codec = codec.codec
        self._job = job
        self._encoding = find_encoding(codec, request.judge.items)
        self._framing = frame_category(find_category(self._encoding, request.judge.items.category))
        self._crfs = read_crfs(request, self._encoding.options.video_codec)
        self._placements: dict[str, Placement] = {}
        kept = job.load_checkpoint()
        self._known: dict[str, _Judged] = {} if kept is None else _from_json(kept)

    def tune(self) -> Tuned:
        """Measures without compression, then at one rate factor after another.

        Raises:
            FailedPrecondition: too few normals.
            MekikiError: an item cannot be read or prepared.
        """
        normals = self._choose_normals()
        names = [item.item_id for item in normals]
        with TemporaryDirectory() as one, TemporaryDirectory() as two, TemporaryDirectory() as three:
            raw, prepared, compressed = FrameFiles(one), FrameFiles(two), FrameFiles(three)
            self._add_all(self._read(names), len(names), raw, prepared)
            tests, strength, base = self._find_tests(normals, raw, prepared)
            unprepared = self._recall("raw", lambda: self._score(names, raw, tests, raw, is_raw=True))

            def measure(crf: int) -> Point:
                def judge() -> _Judged:
                    size = self._compress(names, crf, compressed)
                    return replace(self._score(names, compressed, tests, prepared), frame_bytes=size)

                made = self._recall(str(crf), judge)
                loss = measure_loss(base.trials, made.trials, self._judge.seed)
                return Point(crf, made.frame_bytes, mean_auroc(made.trials), loss)

            crf, points = search(*self._crfs, self._request.max_loss, measure)
        return Tuned(crf, points, unprepared.trials, base.trials, strength)

    def _choose_normals(self) -> list[mekiki.Item]:
        """As many normals as are used, evenly from all that lie on the reference."""
        described = (read.item for read in self._codec.read_items(self._judge.items, metadata_only=True))
        aligned = [item for item in described if item.item_id not in self._encoding.unaligned]
        few = [aligned[int(place)] for place in np.linspace(0, len(aligned) - 1, min(SAMPLE, len(aligned)))]
        wanted = types_pb2.ItemFilter()
        wanted.CopyFrom(self._judge.items)
        wanted.item_ids[:] = [item.item_id for item in few]
        encoded = {read.item.item_id for read in self._codec.read_items(wanted) if read.error is None} if few else set()
        few = [item for item in few if item.item_id in encoded]  # not what was appended since
        if len(few) < LEAST_NORMALS:
            found = f"{len(few)} aligned normals of {self._judge.items.dataset!r} are selected"
            raise FailedPrecondition("TOO_FEW_NORMALS", f"{found}, at least {LEAST_NORMALS} are needed")
        return few

    def _hold_out(self, normals: Sequence[mekiki.Item], seed: int) -> tuple[str, ...]:
        """A quarter of the normals; photos of one part are held out together."""
        groups = group_items(normals)
        chosen: list[str] = []
        for place in np.random.default_rng([self._judge.seed, seed]).permutation(len(groups)):
            if len(chosen) < HELD_OUT * len(normals):
                chosen += groups[place]
        if len(chosen) == len(normals):
            raise FailedPrecondition("TOO_FEW_NORMALS", "the normals are of one group: nothing to compare it with")
        return tuple(sorted(chosen))

    def _find_tests(
        self, normals: Sequence[mekiki.Item], raw: FrameFiles, prepared: FrameFiles
    ) -> tuple[list[_Tests], int, _Judged]:
        """Finds what to judge: given defects, or made-up ones, just so strong that the detector finds them.

        Returns:
            The tests of each seed, the strength of the defects, and the scores without compression.
        """
        names = [item.item_id for item in normals]
        held_out = [self._hold_out(normals, seed) for seed in range(SEEDS)]
        if self._request.defects.dataset:
            given = self._add_given(raw, prepared)
            tests = [_Tests(each, given) for each in held_out]
            return tests, 0, self._recall("prepared", lambda: self._score(names, prepared, tests, prepared))
        for strength in STRENGTHS:
            tests = [
                _Tests(each, self._add_faults(each, seed, strength, raw, prepared))
                for seed, each in enumerate(held_out)
            ]
            judge = partial(self._score, names, prepared, tests, prepared)
            base = self._recall(f"prepared, strength {strength}", judge)
            if mean_auroc(base.trials) >= FOUND:
                break
        return tests, strength, base

    def _add_faults(
        self, names: Sequence[str], seed: int, strength: int, raw: FrameFiles, prepared: FrameFiles
    ) -> tuple[str, ...]:
        """Makes a defect on each normal."""

        def make() -> Iterator[tuple[str, NDArray[np.uint8]]]:
            for name, pixels in self._read(names):
                random = np.random.default_rng([self._judge.seed, seed, zlib.crc32(name.encode())])
                part = self._framing.find_part(self._placements[name])
                yield f"{seed}/{name}", make_fault(pixels, part, random, strength)

        self._add_all(make(), len(names), raw, prepared)
        return tuple(f"{seed}/{name}" for name in names)

    def _add_given(self, raw: FrameFiles, prepared: FrameFiles) -> tuple[str, ...]:
        names = []

        def read() -> Iterator[tuple[str, NDArray[np.uint8]]]:
            for one in self._codec.read_items(to_originals(self._request.defects)):
                names.append(f"defect/{one.item.item_id}")
                yield names[-1], narrow(_pixels(one))

        self._add_all(read(), 0, raw, prepared)
        if not names:
            raise InvalidArgument("defects", f"must select at least 1 item of {self._request.defects.dataset!r}")
        return tuple(names)

    def _add_all(
        self, images: Iterable[tuple[str, NDArray[np.uint8]]], total: int, raw: FrameFiles, prepared: FrameFiles
    ) -> None:
        """Keeps images, as they are and prepared."""
        items = self._judge.items
        for number, (name, pixels) in enumerate(images):
            self._job.report("preparing images", number, total)
            made = self._codec.prepare_image(
                items.dataset, pixels, encoding_id=items.encoding_id, category=items.category
            )
            shrink = min(1.0, RAW_SIDE / max(pixels.shape[:2]))
            raw.put(name, resize(pixels, (round(pixels.shape[0] * shrink), round(pixels.shape[1] * shrink))))
            prepared.put(name, made.pixels)
            self._placements[name] = Placement(made.alignment.affine.matrix, (pixels.shape[0], pixels.shape[1]))

    def _read(self, names: Sequence[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for read in self._codec.read_items(mekiki.ItemFilter(self._judge.items.dataset, item_ids=names)):
            yield read.item.item_id, narrow(_pixels(read))

    def _compress(self, names: Sequence[str], crf: int, frames: FrameFiles) -> float:
        """Fills in what comes out of the video; returns the mean bytes of a frame."""
        items, sizes = self._judge.items, list[int]()
        for shown in self._codec.preview_encoding(items.dataset, names, crf, encoding_id=items.encoding_id):
            self._job.report(f"compressing at {crf}", len(sizes), len(names))
            frames.put(shown.item_id, shown.pixels)
            sizes.append(shown.frame_bytes)
        return float(np.mean(sizes))

    def _score(
        self,
        names: Sequence[str],
        normals: FrameFiles,
        tests: Sequence[_Tests],
        images: FrameFiles,
        *,
        is_raw: bool = False,
    ) -> _Judged:
        """Builds a detector of some frames and has it judge others, of each seed without what that holds out."""
        request = anomaly_pb2.TrainDetectorRequest()
        request.CopyFrom(self._judge)
        if is_raw:
            request.items.form = types_pb2.ITEM_FORM_ORIGINAL
        plan = read_plan(request, aligned=not is_raw and is_aligned(self._encoding))
        framing = Framing() if is_raw else self._framing
        model = open_model(plan, (normals.get(name) for name in names), framing, self._job)
        device = choose_device(self._job.settings.device)
        detector = fill_bank(model, ((name, normals.get(name)) for name in names), device, self._job)
        trials = []
        for each in tests:
            measure = partial(self._measure, detector, images, frozenset(each.normals))
            trials.append(Trial(measure(each.normals), measure(each.defects)))
        return _Judged(0.0, tuple(trials))

    def _measure(
        self, detector: Detector, images: FrameFiles, exclude: frozenset[str], names: Sequence[str]
    ) -> NDArray[np.float64]:
        """(n,) scores."""
        scores = []
        for number, name in enumerate(names):
            self._job.report("scoring images", number, len(names))
            scores.append(detector.measure(images.get(name), exclude))
        return np.array(scores)

    def _recall(self, stage: str, judge: Callable[[], _Judged]) -> _Judged:
        """What is known of a stage from before a worker was lost; else it is done, and kept."""
        if stage not in self._known:
            self._known[stage] = judge()
            self._job.save_checkpoint(_to_json(self._known))
        return self._known[stage]


def _pixels(read: mekiki.ReadItem) -> Pixels:
    if read.error is not None:
        raise read.error
    return read.pixels


def _to_json(known: Mapping[str, _Judged]) -> bytes:
    told = {
        stage: [made.frame_bytes, [[trial.normals.tolist(), trial.defects.tolist()] for trial in made.trials]]
        for stage, made in known.items()
    }
    return json.dumps(told).encode()


def _from_json(data: bytes) -> dict[str, _Judged]:
    return {
        stage: _Judged(size, tuple(Trial(np.array(normals), np.array(defects)) for normals, defects in trials))
        for stage, (size, trials) in json.loads(data).items()
    }
