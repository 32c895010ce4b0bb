"""On real photographs, with the pretrained backbone: skipped, with the reason, where there are none."""

import cv2
import numpy as np
import torch

from services.saliency.model import Classifier
from services.saliency.pictures import prepare
from services.saliency.recipe import Recipe, TrainingSet, Watch
from services.saliency.train import train_classifier


def read_folder(folder, count):
    """The first images of every label: arrays and labels."""
    files = [file for label in sorted(folder.iterdir()) for file in sorted(label.iterdir())[:count]]
    return [cv2.imread(str(file))[..., ::-1] for file in files], [file.parent.name for file in files]


def test_eight_photographs_of_each_of_six_defects_are_enough(real_data):
    steel, weights = real_data("steel"), real_data("weights")
    images, labels = read_folder(steel / "train", 8)
    data = TrainingSet(np.stack([prepare(image, 224) for image in images]), tuple(labels), ("",) * len(labels))
    file = weights / "mobilenetv2_100.imagenet-features.safetensors"
    training = train_classifier(data, Recipe(epochs=4), weights=file, device=torch.device("cpu"), watch=Watch())
    classifier = Classifier(training.network, training.labels, torch.device("cpu"))
    images, labels = read_folder(steel / "test", 8)
    answers = [prediction.ranking[0][0] for prediction in classifier.classify(images)]
    assert np.mean([answer == label for answer, label in zip(answers, labels, strict=True)]) > 0.85
