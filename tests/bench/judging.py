"""Detectors in this process, as the services build them."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from services.anomaly.backbones import hub_repo
from services.anomaly.bank import Bank
from services.anomaly.curves import compute_auroc
from services.anomaly.engines.training import Journal
from services.anomaly.frames import Framing, to_pixels
from services.anomaly.model import Detector
from services.anomaly.training import Options, PadimOptions, PatchOptions, Plan, train_model
from services.runtime.errors import FailedPrecondition
from services.runtime.manifest import ManifestLog
from services.runtime.store import Store
from services.runtime.weights import find_weights

BACKBONE = "mobilenetv2_100"
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def find_backbone() -> Path | None:
    """The weights that MEKIKI_WEIGHTS_DIR holds; None, and said why, where there are none."""
    try:
        folder = os.environ.get("MEKIKI_WEIGHTS_DIR")
        return find_weights(BACKBONE, hub_repo(BACKBONE) or "", Path(folder) if folder else None).path
    except FailedPrecondition as error:
        print(f"skipped: {error.message}")
        return None


def make_detector(engine: str, side_px: int, mask: Mask | None, train: Sequence[Pixels], weights: Path) -> Detector:
    """Embedder, then bank, with defaults but for the size.

    Args:
        engine: "patch", which compares place by place where there is a mask, or "padim".
        side_px: of the longer side, as the network sees it.
        mask: of the part in all images; None where they are not aligned.
        train: normal images, (h, w, 3).
        weights: of the backbone.
    """
    options: Options = PadimOptions(side_px)
    if engine == "patch":
        options = PatchOptions(side_px, same_place=mask is not None)
    silent, cpu = Journal(lambda _: None, lambda _: None), torch.device("cpu")
    model = train_model(Plan(options, BACKBONE), train, Framing(mask), weights, cpu, silent)
    store = Store.open("memory://")
    bank = Bank(store, ManifestLog(store, "log"), model.engine.layout, model.engine.prepare)
    empty = Detector(model, bank.snapshot, None, cpu)
    bank.enroll([(f"{number:04d}", "", empty.contribute_item(image)) for number, image in enumerate(train)])
    return Detector(model, bank.snapshot, None, cpu)


def measure_auroc(detector: Detector, good: Sequence[Pixels], bad: Sequence[Pixels]) -> float:
    """Image AUROC over images of any number of channels."""
    scores = [detector.score_image(to_pixels(image)).score for image in (*good, *bad)]
    return float(compute_auroc(np.array(scores), np.array([False] * len(good) + [True] * len(bad))))
