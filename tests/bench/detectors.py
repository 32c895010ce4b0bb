"""What the benchmarks of detectors share: services, data pushed to them, a detector made and judged."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mekiki
from mekiki.cli.datasets import to_new_item
from mekiki.cli.folder import read_folder
from tests.running import running_services

ROOT = Path(__file__).resolve().parents[2]


def find_data(name: str) -> Path:
    """The folder of one of the shared data sets; it may not exist."""
    return Path(os.environ.get("MEKIKI_TEST_DATA", ROOT.parent / "shared" / "data")) / name


@contextmanager
def serving() -> Iterator[mekiki.Client]:
    """The four services in one process, with an empty store."""
    passed_on = {name: value for name, value in os.environ.items() if name.startswith("MEKIKI_WEIGHTS")}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_services(Path(folder), passed_on) as running,
        mekiki.Client(running.address) as client,
    ):
        yield client


def push(client: mekiki.Client, dataset: str, folder: Path) -> None:
    """Stores the images of a folder with its masks, as `mekiki push` does."""
    client.codec.create_dataset(dataset)
    for answer in client.codec.append_items(dataset, map(to_new_item, read_folder(folder).files)):
        if answer.error is not None:
            raise answer.error


def make(client: mekiki.Client, name: str, normals: mekiki.ItemFilter, engine: mekiki.Engine) -> mekiki.Detector:
    """Trains and enrols; "small" where there are no weights, which is said."""
    try:
        made = client.anomaly.train_detector(name, normals, engine=engine).result(3600)
    except mekiki.errors.FailedPrecondition as error:
        print(error.message)
        made = client.anomaly.train_detector(name, normals, engine=engine, backbone="small").result(3600)
    found = client.codec.read_items(normals, metadata_only=True)
    refs = (mekiki.ItemRef(normals.dataset, read.item.item_id, normals.form, made.encoding_id) for read in found)
    client.anomaly.enroll_items(made.reference, [mekiki.EnrolledItem(ref.item_id, ref) for ref in refs])
    return client.anomaly.get_detector(made.reference)


def judge(client: mekiki.Client, detector: mekiki.Detector, tests: mekiki.ItemFilter) -> mekiki.Evaluation:
    """Evaluates on labelled items."""
    return client.anomaly.evaluate_detector(detector.reference, tests).result(3600)
