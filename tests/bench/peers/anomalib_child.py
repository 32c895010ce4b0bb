"""One engine of anomalib in a process of its own, in the peers' environment; see `peer.py` for what it is asked.

Reads a job, then commands, one JSON a line; answers one JSON a line. The network is that of timm with the given
weights, read at strides 8 and 16, and the engine is called without Lightning, which would only cost it time.

Of its PatchCore's training a few steps are timed; then the coreset is chosen by the same greedy rule, with exact
distances in place of randomly projected ones, which takes a twentieth of the time.
"""

import json
import os
import sys
import time

import cv2
import numpy as np
import torch
from anomalib.models import Padim, Patchcore
from anomalib.models.components import KCenterGreedy
from safetensors.torch import load_file

BATCH = 16  # for training
PADIM_FEATURES = 100
STEPS = 10  # of anomalib's choice that are timed


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed goes elsewhere
    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    cv2.setNumThreads(job["threads"])
    torch.manual_seed(0)
    peer = Peer(job)
    answers.write(json.dumps(peer.train()) + "\n")
    for line in sys.stdin:
        command = json.loads(line)
        answers.write(json.dumps(getattr(peer, command.pop("do"))(**command)) + "\n")


class Peer:
    def __init__(self, job):
        self._job = job
        self._train = [read(path) for path in job["train"]]
        self._test = [read(path) for path in job["test"]]
        self._module = open_module(job)
        self._transform = Patchcore.configure_pre_processor(tuple(job["shape"])).transform
        self._bank = torch.empty(0)

    def train(self):
        start = time.perf_counter()
        model = self._module.model.train()
        kept = [model(self._prepare(batch)) for batch in cut(self._train, BATCH)]
        made = {"embed_s": time.perf_counter() - start, "step_s": 0.0, "bank": 0}
        start = time.perf_counter()
        if self._job["engine"] == "patchcore":
            self._bank = torch.vstack(kept)
            made["step_s"] = time_steps(self._bank)
            model.embedding_store.clear()
            model.memory_bank = self._bank[choose_spread(self._bank, int(self._job["coreset"] * len(self._bank)))]
            made["bank"] = len(model.memory_bank)
        else:
            self._module.fit()
        made["fit_s"] = time.perf_counter() - start
        model.eval()
        return made

    def draw_bank(self, share):
        """A bank of the size of a coreset, drawn at random: what scoring by a larger bank costs."""
        drawn = torch.randperm(len(self._bank))[: int(share * len(self._bank))]
        self._module.model.memory_bank = self._bank[drawn]
        return {"bank": len(drawn)}

    def rate(self, count, batch):
        """Images a second, from pixels in memory to score and map, over the first `count`."""
        images = self._test[:count]
        start = time.perf_counter()
        for some in cut(images, batch):
            self._judge(some)
        return {"images_per_s": len(images) / (time.perf_counter() - start)}

    def save(self, path):
        """Scores (n,) and maps (n, h, w) of all images, in order."""
        found = [self._judge([image]) for image in self._test]
        scores = np.array([float(score) for score, _ in found])
        np.savez(path, scores=scores, maps=np.stack([heat for _, heat in found]))
        return {}

    def _prepare(self, images):
        tensors = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
        return self._transform(torch.stack(tensors))

    def _judge(self, images):
        with torch.inference_mode():
            found = self._module.model(self._prepare(images))
        maps = found.anomaly_map[:, 0].numpy()
        scores = found.pred_score.flatten().numpy()
        return (scores[0], maps[0]) if len(images) == 1 else (scores, maps)


def open_module(job):
    options = {"backbone": "mobilenetv2_100", "pre_trained": False, "layers": job["layers"], "visualizer": False}
    if job["engine"] == "padim":
        module = Padim(n_features=PADIM_FEATURES, **options)
    else:
        module = Patchcore(coreset_sampling_ratio=job["coreset"], **options)
    network = module.model.feature_extractor.feature_extractor
    given = load_file(job["weights"])
    network.load_state_dict({name: given[name] for name in network.state_dict()})  # all of it, or a KeyError
    return module.eval()


def time_steps(vectors):
    """Seconds that anomalib takes to choose one more vector."""

    def choose(count):
        start = time.perf_counter()
        KCenterGreedy(vectors, (count + 0.5) / len(vectors)).select_coreset_idxs()
        return time.perf_counter() - start

    return (choose(STEPS + 2) - choose(2)) / STEPS


def choose_spread(vectors, count):
    """Each time the vector that is farthest from all that are chosen."""
    lengths = vectors.square().sum(1)
    nearest = torch.full_like(lengths, torch.inf)
    chosen = [int(torch.randint(len(vectors), (1,)))]
    while len(chosen) < count:
        last = vectors[chosen[-1]]
        torch.minimum(nearest, lengths - 2 * (vectors @ last) + last @ last, out=nearest)
        chosen.append(int(nearest.argmax()))
    return chosen


def read(path):
    return np.ascontiguousarray(cv2.imread(path)[:, :, ::-1])


def cut(images, size):
    return [images[start : start + size] for start in range(0, len(images), size)]


if __name__ == "__main__":
    main()
