"""Parts with known defects, drawn; and detectors made of them."""

from dataclasses import replace

import cv2
import numpy as np
import torch

from services.anomaly.bank import Bank
from services.anomaly.compaction import SIZES
from services.anomaly.engines.training import Journal
from services.anomaly.frames import Framing
from services.anomaly.model import Detector
from services.anomaly.threshold import Standard, Threshold
from services.anomaly.training import PatchOptions, Plan, train_model
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store

CPU = torch.device("cpu")
SILENT = Journal(lambda progress: None, lambda checkpoint: None)
SIDE = 96
QUICK = PatchOptions(input_side_px=192, coreset_fraction=1.0)


def draw_part(seed, *, defect=False):
    """A bright bar with a hole on dark ground, (96, 96) uint8; the defect is a dark cross at (60, 30)."""
    random = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE), 40, np.uint8)
    cv2.rectangle(image, (16, 20), (80, 44), int(180 + random.integers(-6, 7)), -1)
    cv2.circle(image, (30, 32), 6, 90, -1)
    if defect:
        cv2.line(image, (54, 24), (66, 36), 20, 3)
        cv2.line(image, (66, 24), (54, 36), 20, 3)
    noise = random.normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def draw_ring(seed, *, defect=False):
    """Another kind of part: a bright ring, (96, 96) uint8; the defect is a dark stripe through it at (48, 20)."""
    random = np.random.default_rng(10_000 + seed)
    image = np.full((SIDE, SIDE), 40, np.uint8)
    cv2.circle(image, (48, 48), 30, int(200 + random.integers(-6, 7)), 9)
    if defect:
        cv2.line(image, (44, 14), (52, 26), 20, 3)
    return np.clip(image + random.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def draw_parts(count, first=0):
    return [draw_part(first + number) for number in range(count)]


PART_MASK = np.zeros((SIDE, SIDE), bool)
PART_MASK[12:52, 8:88] = True


def open_bank(layout, store=None, sizes=SIZES):
    store = store or Store.open("memory://")
    return Bank(store, ManifestLog(store, "log"), layout, sizes=sizes)


def train_parts(options=QUICK, *, prepared=False, count=12):
    if prepared and isinstance(options, PatchOptions):
        options = replace(options, same_place=True)
    plan = Plan(options, "small")
    return train_model(plan, draw_parts(count), Framing(PART_MASK if prepared else None), None, CPU, SILENT)


def enroll_parts(model, parts):
    """A detector whose bank holds these, named 0, 1, ..."""
    bank = open_bank(model.engine.layout)
    empty = Detector(model, bank.snapshot, None, CPU)
    bank.enroll([(str(number), "", empty.contribute_item(part)) for number, part in enumerate(parts)])
    return Detector(model, bank.snapshot, None, CPU)


def enroll_kinds(model, count=12):
    """A detector of two kinds of parts: bars and rings, named bar-0, ring-0, ..."""
    bank = open_bank(model.engine.layout)
    empty = Detector(model, bank.snapshot, None, CPU)
    kinds = {"bar": draw_part, "ring": draw_ring}
    bank.enroll(
        [
            (f"{kind}-{number}", kind, empty.contribute_item(draw(number)))
            for kind, draw in kinds.items()
            for number in range(count)
        ]
    )
    return Detector(model, bank.snapshot, None, CPU)


def make_standard(value, scores=()):
    """A threshold, and the scores of the normals that it was set from."""
    return Standard(Threshold(value, 0.1, 0.9, 1, len(scores)), np.sort(np.array(scores, np.float64)))
