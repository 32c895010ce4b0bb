"""What tests of the served detectors share: a catalogue's entries without training, and work without a worker."""

import dataclasses
import secrets

import numpy as np
from anomaly_codec import DATASET

from services.anomaly.config import AnomalySettings
from services.anomaly.entries import About, Calibration, Limit, Reference
from services.anomaly.training import MetricOptions

NOW = "2026-11-21T07:00:00+00:00"


def tell_about(options, encoding_id=""):
    engine = "metric" if isinstance(options, MetricOptions) else "patch"
    return About(engine, dataclasses.asdict(options), "small", "none", "drawn", DATASET, encoding_id, NOW)


def calibrate(catalogue, name, value, scores=(0.1, 0.2, 0.3)):
    calibrate_kinds(catalogue, name, {"": (value, scores)})


def calibrate_kinds(catalogue, name, kinds):
    """Kinds are threshold and scores by category; a name may be name@version."""
    name, _, version = name.partition("@")
    entry = catalogue.read().find(Reference(name, int(version) if version else None))
    limits = {category: Limit(value, len(scores)) for category, (value, scores) in kinds.items()}
    promise = Calibration(limits, 0.01, 0.95, 1, NOW, f"scores/{secrets.token_hex(8)}")
    found = {category: np.array(scores, np.float64) for category, (_, scores) in kinds.items()}
    catalogue.calibrate(entry, promise, found)


class FakeJob:
    def __init__(self, address, store):
        self.settings = AnomalySettings(codec_address=address, device="cpu")
        self.store, self.operation_name, self.phases = store, "anomaly/operations/1", []

    def report(self, phase, done=0, total=0, **metrics):
        self.phases.append((phase, done, total))

    def save_checkpoint(self, data):
        self.checkpoint = data

    def load_checkpoint(self):
        return None
