"""One small classifier that learnt the spots."""

from dataclasses import dataclass

import pytest
import torch
from spots import draw_set, train

from services.saliency.model import Classifier
from services.saliency.recipe import Training


@dataclass(frozen=True)
class Learnt:
    training: Training
    classifier: Classifier


@pytest.fixture(scope="session")
def learnt() -> Learnt:
    training = train(draw_set(36))
    return Learnt(training, Classifier(training.network, training.labels, torch.device("cpu")))


@pytest.fixture
def classifier(learnt: Learnt) -> Classifier:
    return learnt.classifier
