"""The first stage: the last layer learns on features that the frozen backbone computes once."""

import numpy as np
import torch

from services.saliency.augment import crop
from services.saliency.embedding import embed_pictures, embed_thumbnails
from services.saliency.head import Course, Head, fit_head, judge, tells_left_from_right, weigh_classes
from services.saliency.pictures import Pixels
from services.saliency.recipe import Epoch
from services.saliency.task import State, Task

MANY = 500  # pictures; from here on variety comes from the data, and crops would only cost time
PHASE = "computing features"


def fit_frozen(task: Task, epochs: int, plain: torch.Tensor | None = None) -> State:
    """Train the last layer for `epochs`, load the best into the network, and give the state after them.

    `plain` (n, d) are the pictures' embeddings, where they are known already.
    """
    if plain is None:
        plain = _embed_all(task, task.data.pictures, 0)
    mirrored = _embed_all(task, task.data.pictures[:, :, ::-1], 1)
    course = _plan_course(task, epochs)
    mirror = not tells_left_from_right(plain, mirrored, task.classes)
    features, classes = _gather_views(task, plain, mirrored if mirror else None)
    head, history = _choose_head(task, course, features, classes, plain[task.validation])
    linear = task.network.linear
    with torch.no_grad():
        linear.weight.copy_(head.weight)
        linear.bias.copy_(head.bias)
    learning = task.copy_learning()
    return State(mirror, history, learning, learning, {})


def start_from_nothing(task: Task) -> State:
    """Give the state before the first epoch of a network without pretrained weights.

    Its features tell nothing yet, so whether labels tell left from right is looked up on thumbnails.
    """
    plain = embed_thumbnails(task.data.pictures).to(task.device)
    mirrored = embed_thumbnails(task.data.pictures[:, :, ::-1]).to(task.device)
    mirror = not tells_left_from_right(plain, mirrored, task.classes)
    learning = task.copy_learning()
    return State(mirror, (), learning, learning, {})


def _plan_course(task: Task, epochs: int) -> Course:
    weights = weigh_classes(task.classes[task.training], task.network.linear.out_features)
    return Course(epochs, task.recipe.learning_rate, task.recipe.batch_size, weights)


def _count_crops(task: Task) -> int:
    return 2 if len(task.training) < MANY else 0


def _embed_all(task: Task, pictures: Pixels, view: int) -> torch.Tensor:
    """(n, s, s, 3) → (n, d), reporting as view number `view` of all views."""
    n, views = len(pictures), 2 + _count_crops(task)

    def report(done: int) -> None:
        task.report(PHASE, view * n + done, views * n, ())

    return embed_pictures(task.network, pictures, task.device, report)


def _gather_views(task: Task, plain: torch.Tensor, mirrored: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """All views of the training pictures: features (m, d) and classes (m,)."""
    chosen = task.training
    views = [plain[chosen]] if mirrored is None else [plain[chosen], mirrored[chosen]]
    pictures = task.data.pictures[chosen.numpy()] if _count_crops(task) else task.data.pictures[:0]
    for number in range(_count_crops(task)):
        flip = mirrored is not None and number % 2 == 1
        views.append(_embed_all(task, _crop_all(pictures, task.recipe.seed + number, flip=flip), 2 + number))
    return torch.cat(views), task.classes[chosen].repeat(len(views))


def _crop_all(pictures: Pixels, seed: int, *, flip: bool) -> Pixels:
    draws = torch.rand(len(pictures), 4, generator=torch.Generator().manual_seed(seed)).numpy()
    crops = np.stack([crop(picture, draw) for picture, draw in zip(pictures, draws, strict=True)])
    return crops[:, :, ::-1] if flip else crops


def _choose_head(
    task: Task, course: Course, features: torch.Tensor, classes: torch.Tensor, held_out: torch.Tensor
) -> tuple[Head, tuple[Epoch, ...]]:
    """Fit, judge every epoch on `held_out` (v, d), and give the best head and all figures."""
    truth = task.classes[task.validation]
    generator = torch.Generator().manual_seed(task.recipe.seed)
    heads, history = [], []
    for number, head in enumerate(fit_head(features, classes, course, generator), start=1):
        heads.append(head)
        history.append(judge(head.score(held_out), truth, number))
        task.report("training the last layer", number, course.epochs, tuple(history))
    best = max(history, key=task.recipe.rank)
    return heads[best.number - 1], tuple(history)
