"""Answers what a batcher gathered: questions to any number of classifiers, alike ones together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from services.runtime.errors import MekikiError
from services.saliency.model import Classifier, Explanation, Prediction, Question
from services.saliency.triage import Sighting

Image = npt.NDArray[np.generic]
Answer = TypeVar("Answer")


@dataclass(frozen=True, eq=False)
class Asked:
    """One image for one classifier; what `question` says does not matter where it is only to be classified."""

    classifier: Classifier
    image: Image
    question: Question


def classify_batch(batch: list[Asked]) -> list[Prediction | Exception]:
    """Classify every image by its own classifier."""

    def classify(classifier: Classifier, _: Question, images: Sequence[Image]) -> list[Prediction]:
        return classifier.classify(images)

    return _answer_alike(batch, classify)


def explain_batch(batch: list[Asked]) -> list[Explanation | Exception]:
    """Explain every image by its own classifier; a question that cannot be answered fails alone."""

    def explain(classifier: Classifier, question: Question, images: Sequence[Image]) -> list[Explanation]:
        return classifier.explain(images, question)

    return _answer_alike(batch, explain)


def sight_batch(batch: list[Asked]) -> list[Sighting | Exception]:
    """Sight every image by its own classifier."""

    def sight(classifier: Classifier, _: Question, images: Sequence[Image]) -> list[Sighting]:
        return classifier.sight(images)

    return _answer_alike(batch, sight)


def _answer_alike(
    batch: list[Asked], answer: Callable[[Classifier, Question, Sequence[Image]], Sequence[Answer]]
) -> list[Answer | Exception]:
    alike: dict[tuple[int, Question], list[int]] = {}
    for index, asked in enumerate(batch):
        alike.setdefault((id(asked.classifier), asked.question), []).append(index)
    answers: dict[int, Answer | Exception] = {}
    for indices in alike.values():
        first = batch[indices[0]]
        try:
            found = answer(first.classifier, first.question, [batch[index].image for index in indices])
            answers.update(zip(indices, found, strict=True))
        except MekikiError as error:
            answers.update(dict.fromkeys(indices, error))
    return [answers[index] for index in range(len(batch))]
