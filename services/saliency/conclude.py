"""The last step of a training: what the network says of what it learnt from, and of what was held out."""

import numpy as np
import numpy.typing as npt
import torch

from services.saliency.assessment import Assessment, list_mistakes, tabulate
from services.saliency.calibration import Calibration, HeldOut, Memory
from services.saliency.embedding import embed_inputs
from services.saliency.spread import choose_spread
from services.saliency.task import VALIDATION_BATCH, Task
from services.saliency.temperature import fit_temperature, measure_by_halves, measure_calibration_error, soften

MAX_REMEMBERED = 4096  # embeddings of 1280 values: 10 MB
MAX_HELD_OUT, MAX_PROBABILITIES = 10_000, 10_000_000  # items, and items by labels: 40 MB
PHASE = "looking at all images once more"


def conclude(task: Task, labels: tuple[str, ...]) -> tuple[Calibration, Assessment]:
    """Calibrate the finished network on the validation pictures, and say how it does on them."""
    memory = _remember(task)
    embeddings = _embed(task, task.validation, len(task.training))
    with torch.no_grad():
        logits = task.network.linear(embeddings).double().cpu().numpy()
    classes = task.classes[task.validation].cpu().numpy()
    units = task.split.units[task.validation.numpy()]
    temperature = fit_temperature(logits, classes)
    probabilities = soften(logits, temperature)
    kept = _choose_rows(len(classes), len(labels), task.recipe.seed)
    distances = memory.measure(embeddings).cpu().numpy()
    held_out = HeldOut(probabilities[kept].astype(np.float32), distances[kept], classes[kept], units[kept])
    accuracy, figures, cells = tabulate(labels, classes, probabilities.argmax(1))
    item_ids = [task.data.item_ids[index] for index in task.validation] if task.data.item_ids else []
    assessment = Assessment(
        accuracy=accuracy,
        labels=tuple(figures),
        confusion=tuple(cells),
        mistakes=tuple(list_mistakes(labels, item_ids, classes, probabilities)),
        calibration_error=measure_by_halves(logits, classes, units),
        raw_calibration_error=measure_calibration_error(soften(logits, 1.0), classes),
        held_out_unit_count=len(np.unique(units)),
        look_alike_cosine=task.split.look_alike_cosine,
    )
    return Calibration(temperature, held_out, memory), assessment


def _remember(task: Task) -> Memory:
    embeddings = torch.nn.functional.normalize(_embed(task, task.training, 0), dim=1)
    chosen = choose_spread(embeddings, MAX_REMEMBERED)
    return Memory(embeddings[chosen.to(embeddings.device)].half().float())  # as it is read back


def _embed(task: Task, indices: torch.Tensor, before: int) -> torch.Tensor:
    """(n,) indices → (n, d), of pictures as they are served."""
    total, parts = len(task.training) + len(task.validation), []
    for part in torch.split(indices, VALIDATION_BATCH):
        parts.append(embed_inputs(task.network, task.look(part)))
        before += len(part)
        task.watch.report(PHASE, before, total)
    return torch.cat(parts)


def _choose_rows(count: int, labels: int, seed: int) -> npt.NDArray[np.int64]:
    """Some of the held-out items where there are too many to keep."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[: min(MAX_HELD_OUT, max(1, MAX_PROBABILITIES // labels))])
