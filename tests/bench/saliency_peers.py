"""Heat maps beside pytorch-grad-cam: the same network, pixels, layer, label and threads; values, then images a second.

MobileNetV2 at 224 px with a last layer drawn at random, since which label is explained does not matter here. Theirs is
given the network's inputs, and batches of 1, 4 and 16, of which the best counts; ours begins with the pixels, which it
scales and normalises, and ends with the finished map. In turn, round by round, so that both meet the same machine. The
peer lives in an environment of its own, made on first use (tests/bench/gradcam.txt); where that cannot be had, this is
skipped and says so.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from services.saliency import explain
from services.saliency.backbones import build_network
from services.saliency.model import Classifier, Method, Question
from services.saliency.views import View
from tests.bench.detectors import find_data
from tests.bench.figures import Figures
from tests.bench.judging import find_backbone
from tests.bench.peers.surroundings import find_python

BACKBONE, SIDE_PX, CLASSES, LABEL = "mobilenetv2_100", 224, 10, 3
COUNT, ROUNDS, BATCHES, THREADS = 32, 5, (1, 4, 16), 2
METHODS = (Method.GRAD_CAM, Method.GRAD_CAM_PLUS_PLUS, Method.LAYER_CAM, Method.EIGEN_CAM)
LAYERS = {"last layer": ("", "bn2"), "blocks.4": ("blocks.4", "blocks.4")}  # ours and timm's name
CHILD = Path(__file__).parent / "peers" / "gradcam_child.py"


class Peer:
    """The process; use it as a context manager."""

    def __init__(self, python: Path, folder: Path, classifier: Classifier, inputs: NDArray[np.float32]) -> None:
        import safetensors.torch

        np.save(folder / "inputs.npy", inputs)
        tensors = {name: tensor.contiguous() for name, tensor in classifier.network.module.state_dict().items()}
        safetensors.torch.save_file(tensors, folder / "tensors.safetensors")
        self._path = folder / "maps.npy"
        self._log = (folder / "log").open("w+")
        environment = {"OMP_NUM_THREADS": str(THREADS), "PATH": os.environ["PATH"], "HOME": str(folder)}
        self._process = subprocess.Popen(
            [str(python), str(CHILD)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        job = {"backbone": BACKBONE, "classes": CLASSES, "threads": THREADS}
        self._ask(job | {"tensors": str(folder / "tensors.safetensors"), "inputs": str(folder / "inputs.npy")})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._log.close()

    def rate(self, method: str, layer: str, batch: int) -> float:
        """Images a second."""
        asked = {"method": method, "layer": layer, "batch": batch, "label": LABEL, "path": ""}
        return self._ask(asked)["images_per_s"]

    def explain(self, method: str, layer: str) -> NDArray[np.float32]:
        """Maps, (n, s, s)."""
        self._ask({"method": method, "layer": layer, "batch": 1, "label": LABEL, "path": str(self._path)})
        return np.load(self._path)

    def _ask(self, request: dict[str, object]) -> dict[str, float]:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._log.seek(0)
            raise RuntimeError(f"the peer ended: {self._log.read()[-3000:]}")
        return json.loads(answer)


def main() -> None:
    """Measures, prints and writes build/bench/saliency_peers.json."""
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(1)
    weights, python = find_backbone(), find_python("gradcam.txt")
    if weights is None or python is None:
        return
    figures = Figures("saliency_peers")
    classifier, images = make_classifier(weights), draw_images()
    inputs = classifier._eye.feed(images, View(SIDE_PX)).numpy()
    with tempfile.TemporaryDirectory() as folder, Peer(python, Path(folder), classifier, inputs) as peer:
        for name, (ours, theirs) in LAYERS.items():
            for method in METHODS:
                compare_values(figures, classifier, images, peer, (name, ours, theirs), method)
        for name, (ours, theirs) in LAYERS.items():
            for method in METHODS:
                compare_rates(figures, classifier, images, peer, (name, ours, theirs), method)
    figures.finish()


def make_classifier(weights: Path) -> Classifier:
    """A network whose last layer prefers something."""
    network = build_network(BACKBONE, CLASSES, weights=weights)
    torch.nn.init.normal_(network.linear.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return Classifier(network, tuple(str(number) for number in range(CLASSES)), torch.device("cpu"))


def draw_images() -> list[NDArray[np.uint8]]:
    """Photos where there are some, else blobs; all of the size of the network's input."""
    paths = sorted(find_data("raccoon").glob("images/*.jpg"))[:COUNT]
    if paths:
        return [cv2.resize(cv2.imread(str(path))[:, :, ::-1], (SIDE_PX, SIDE_PX)) for path in paths]
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    return [cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC) for image in coarse]


def compare_values(
    figures: Figures, classifier: Classifier, images: list, peer: Peer, place: tuple[str, str, str], method: Method
) -> None:
    """The largest difference between finished maps of both, each scaled to its maximum."""
    name, ours, theirs = place
    question = Question(str(LABEL), method, ours)
    found = [said.heatmap for said in classifier.explain(images, question)]
    worst = max(
        float(np.abs(stretch(heat) - other).max())
        for heat, other in zip(found, peer.explain(method.value, theirs), strict=True)
    )
    goal = None if method is Method.EIGEN_CAM else 0.01  # theirs leaves the component's sign to chance
    figures.add(f"{method.value} at {name}: largest difference of a value", worst, "of 1", goal, "lower")


def stretch(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """As theirs finishes a map: from its least to its greatest value, then resized, which is to 0 to 1 again."""
    low = heat - heat.min()
    sized = cv2.resize(low / (1e-7 + low.max()), (SIDE_PX, SIDE_PX))
    return explain.finish_heatmap(sized, None)


def compare_rates(
    figures: Figures, classifier: Classifier, images: list, peer: Peer, place: tuple[str, str, str], method: Method
) -> None:
    """Images a second of both, in turn; the peer in the batches that suit it best."""
    name, ours, theirs = place
    question = Question(str(LABEL), method, ours)
    rate(classifier, images, question)
    best = max(BATCHES, key=lambda batch: peer.rate(method.value, theirs, batch))
    pairs = [(rate(classifier, images, question), peer.rate(method.value, theirs, best)) for _ in range(ROUNDS)]
    figures.add(f"{method.value} at {name}: ours", statistics.median(pair[0] for pair in pairs), "images/s")
    title = f"{method.value} at {name}: theirs in batches of {best}"
    figures.add(title, statistics.median(pair[1] for pair in pairs), "images/s")
    ratio = statistics.median(here / there for here, there in pairs)
    figures.add(f"{method.value} at {name}: ours / theirs, median of rounds", ratio, "x", 3)


def rate(classifier: Classifier, images: list, question: Question) -> float:
    """Images a second, from pixels."""
    start = time.perf_counter()
    classifier.explain(images, question)
    return len(images) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
