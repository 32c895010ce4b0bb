"""What an operator sees of the detectors in memory: their versions, their banks, and what they say of the parts."""

from prometheus_client import Counter, Gauge

from services.anomaly.drift import DriftTest
from services.anomaly.entries import KIND, Calibration, Entry
from services.anomaly.snapshot import Snapshot
from services.runtime.model_metrics import MODELS

CATEGORY = "category"  # of a detector there are 100 at most, and only whoever enrols makes one
DETECTOR_VERSION = Gauge("mekiki_detector_version", "The version that serves.", [KIND])
BANK_VERSION = Gauge("mekiki_bank_version", "The version of its bank, as this replica knows it.", [KIND])
BANK_ITEMS = Gauge("mekiki_bank_items", "Normal items in its bank, as this replica knows it.", [KIND])
VERDICTS = Counter(
    "mekiki_verdicts", "Images judged: normal, anomalous, or none before there is a threshold.", [KIND, "verdict"]
)
DRIFT_EVIDENCE = Gauge(
    "mekiki_drift_evidence",
    "Evidence that scores have risen since the calibration, in this replica; 100 signals drift.",
    [KIND, CATEGORY],
)
DRIFTED = Gauge("mekiki_drifted", "1 once drift was signalled in this replica, 0 before.", [KIND, CATEGORY])
_WORDS = {None: "none", False: "normal", True: "anomalous"}


class Figures:
    """Keeps the gauges of one shelf: those of its detectors and no others."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[int, int]] = {}
        self._drifting: dict[str, Calibration] = {}

    def show(self, entry: Entry, snapshot: Snapshot) -> None:
        """Shows what serves; counting a bank takes a while, so only a new one is counted."""
        MODELS.meet(KIND, entry.name)
        versions = entry.version, snapshot.version
        if self._shown.get(entry.name) != versions:
            self._shown[entry.name] = versions
            DETECTOR_VERSION.labels(entry.name).set(entry.version)
            BANK_VERSION.labels(entry.name).set(snapshot.version)
            BANK_ITEMS.labels(entry.name).set(len(snapshot.items))

    def show_drift(self, entry: Entry, calibration: Calibration, category: str, drift: DriftTest) -> None:
        """Shows what the images of a category say since the calibration; with a new one all categories begin again."""
        if self._drifting.get(entry.name) is not calibration:
            self._forget_drift(entry.name)
            self._drifting[entry.name] = calibration
        DRIFT_EVIDENCE.labels(entry.name, category).set(drift.evidence)
        DRIFTED.labels(entry.name, category).set(drift.drifted)

    def keep(self, names: set[str]) -> None:
        """Forgets all detectors but those."""
        for name in self._shown.keys() - names:
            del self._shown[name]
            MODELS.forget(KIND, name)
            self._forget_drift(name)
            for metric in (DETECTOR_VERSION, BANK_VERSION, BANK_ITEMS, VERDICTS):
                metric.remove_by_labels({KIND: name})

    def _forget_drift(self, name: str) -> None:
        self._drifting.pop(name, None)
        for metric in (DRIFT_EVIDENCE, DRIFTED):
            metric.remove_by_labels({KIND: name})


def count_verdict(detector: str, *, is_anomalous: bool | None) -> None:
    """Counts one judged image."""
    if MODELS.knows(KIND, detector):
        VERDICTS.labels(detector, _WORDS[is_anomalous]).inc()
