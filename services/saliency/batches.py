"""Answers what a batcher gathered: questions to any number of models, alike ones together."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from services.runtime.errors import MekikiError
from services.saliency.model import Classifier, Explanation, Prediction, Question
from services.saliency.triage import Sighting

Image = npt.NDArray[np.generic]
In = TypeVar("In")
Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Asked:
    """One image for one classifier; what `question` says does not matter where it is only to be classified."""

    classifier: Classifier
    image: Image
    question: Question


def classify_batch(batch: list[Asked]) -> list[Prediction | Exception]:
    """Classify every image by its own classifier."""
    return answer_alike(batch, _find_kind, lambda alike: alike[0].classifier.classify(_take_images(alike)))


def explain_batch(batch: list[Asked]) -> list[Explanation | Exception]:
    """Explain every image by its own classifier; a question that cannot be answered fails alone."""
    return answer_alike(
        batch, _find_kind, lambda alike: alike[0].classifier.explain(_take_images(alike), alike[0].question)
    )


def sight_batch(batch: list[Asked]) -> list[Sighting | Exception]:
    """Sight every image by its own classifier."""
    return answer_alike(batch, _find_kind, lambda alike: alike[0].classifier.sight(_take_images(alike)))


def _find_kind(asked: Asked) -> Hashable:
    return id(asked.classifier), asked.question


def _take_images(batch: Sequence[Asked]) -> list[Image]:
    return [asked.image for asked in batch]


def answer_alike(
    batch: Sequence[In], find_kind: Callable[[In], Hashable], answer: Callable[[Sequence[In]], Sequence[Answer]]
) -> list[Answer | Exception]:
    """Answer those of one kind together; where that fails, all of them have the error."""
    kinds: dict[Hashable, list[int]] = {}
    for index, asked in enumerate(batch):
        kinds.setdefault(find_kind(asked), []).append(index)
    answers: dict[int, Answer | Exception] = {}
    for indices in kinds.values():
        try:
            answers.update(zip(indices, answer([batch[index] for index in indices]), strict=True))
        except MekikiError as error:
            answers.update(dict.fromkeys(indices, error))
    return [answers[index] for index in range(len(batch))]
