import numpy as np
import pytest
import torch

from services.saliency.assessment import list_mistakes, tabulate
from services.saliency.calibration import Memory
from services.saliency.rates import make_rate
from services.saliency.spread import choose_spread


@pytest.mark.parametrize(
    ("count", "total", "lower", "upper"),
    [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0), (0, 0, 0.0, 1.0)],
)
def test_intervals_are_wilsons(count, total, lower, upper):
    rate = make_rate(count, total)
    assert (rate.lower, rate.upper) == (pytest.approx(lower, abs=1e-4), pytest.approx(upper, abs=1e-4))


def test_figures_by_label_are_counted_from_the_confusion_matrix():
    classes, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 1])
    accuracy, figures, cells = tabulate(("a", "b", "c"), classes, predicted)
    assert (accuracy.count, accuracy.total) == (4, 6)
    assert [(one.label, one.recall.count, one.recall.total) for one in figures] == [
        ("a", 2, 3),
        ("b", 2, 2),
        ("c", 0, 1),
    ]
    assert [(one.precision.count, one.precision.total) for one in figures] == [(2, 2), (2, 4), (0, 0)]
    told = {(cell.label, cell.predicted_label): cell.count for cell in cells}
    assert told == {("a", "a"): 2, ("a", "b"): 1, ("b", "b"): 2, ("c", "b"): 1}


def test_the_surest_mistakes_come_first_and_are_bounded():
    sureness = np.linspace(0.5, 0.99, 100)
    probabilities = np.stack([sureness, 1 - sureness], 1)
    mistakes = list_mistakes(("a", "b"), [f"i{n}" for n in range(100)], np.array([0, 1] * 50), probabilities)
    assert len(mistakes) == 50
    assert mistakes[0].item_id == "i99"
    assert (mistakes[0].label, mistakes[0].predicted_label) == ("b", "a")
    assert [one.probability for one in mistakes] == sorted((one.probability for one in mistakes), reverse=True)
    assert len(list_mistakes(("a", "b"), [""] * 100, np.ones(100, int), probabilities)) == 60


def test_a_few_vectors_stand_for_many():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(8, 64, generator=generator)
    vectors = centres.repeat_interleave(100, 0) + 0.01 * torch.randn(800, 64, generator=generator)
    chosen = choose_spread(vectors, 8)
    assert sorted((chosen // 100).tolist()) == list(range(8))
    assert choose_spread(vectors, 900).tolist() == list(range(800))


def test_a_distance_is_that_to_the_nearest_whatever_the_length():
    memory = Memory(torch.eye(3)[:2])
    found = memory.measure(torch.tensor([[5.0, 0, 0], [1, 1, 0], [0, 0, 2], [-1, -1, 0]]))
    assert found.tolist() == pytest.approx([0, 1 - 0.5**0.5, 1, 1 + 0.5**0.5], abs=1e-6)
