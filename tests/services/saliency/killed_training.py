"""A training that dies of SIGKILL as soon as it has written so many checkpoints: its checkpoint goes to a file.

`python tests/services/saliency/killed_training.py RECIPE FILE COUNT`; the training goes on from what is in FILE.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import services  # noqa: F401 - before any torch: it sets what that reads as it loads

# isort: split
from spots import draw_set, train

from services.saliency.recipe import Recipe, RecipeName, Watch


def make_recipe(name: str) -> Recipe:
    """Four epochs of a network from nothing."""
    return replace(Recipe(backbone="small", epochs=4, batch_size=8), name=RecipeName(name))


def main() -> None:
    """Trains until the COUNT-th checkpoint is written; a COUNT of 0 never dies, and prints the accuracies."""
    name, path, left = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

    def save(data: bytes) -> None:
        nonlocal left
        beside = path.with_suffix(".new")
        beside.write_bytes(data)
        beside.replace(path)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    resume = path.read_bytes() if path.exists() else None
    training = train(draw_set(8), make_recipe(name), Watch(save=save, resume=resume))
    print([epoch.loss for epoch in training.history])


if __name__ == "__main__":
    main()
