from collections import defaultdict

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.saliency import look_alikes
from services.saliency.look_alikes import find_look_alikes
from services.saliency.split import split_validation


def scatter(centres, each, spread, seed=0):
    """`each` points around every centre."""
    rng = np.random.default_rng(seed)
    points = np.repeat(centres, each, axis=0)
    return torch.from_numpy(points + spread * rng.standard_normal(points.shape)).float()


def test_look_alikes_are_chains_of_near_ones_whatever_the_block(monkeypatch):
    monkeypatch.setattr(look_alikes, "_ROWS", 7)
    monkeypatch.setattr(look_alikes, "_COLUMNS", 5)
    angles = torch.tensor([0, 25, 50, 75, 180, 200, 290.0]).deg2rad()  # cos 25 degrees is .91
    points = torch.stack([angles.cos(), angles.sin()], 1)
    points = torch.cat([points, -points.sum(0, keepdim=True)])  # a mean of nothing
    numbers = find_look_alikes(points, [""] * 8, 0.9).tolist()
    assert numbers[0] == numbers[1] == numbers[2] == numbers[3]
    assert numbers[4] == numbers[5] != numbers[0]
    assert len(set(numbers)) >= 3


def test_look_alikes_of_many_blocks_are_those_of_one():
    points = scatter(np.random.default_rng(1).standard_normal((40, 16)), 5, 0.05)
    numbers = find_look_alikes(points, [""] * 200, 0.9)
    assert (numbers == np.repeat(np.arange(40), 5)).all()


def test_near_duplicates_never_straddle_a_split_without_groups():
    points = scatter(np.random.default_rng(1).standard_normal((40, 16)), 5, 0.05)
    classes = np.repeat([0, 1], 100)
    split = split_validation(classes, [""] * 200, 0.2, 3, points)
    assert (split.by, split.look_alike_cosine) == ("look_alikes", 0.8)
    assert all(len(sides) == 1 for sides in spread(split.held_out, np.repeat(np.arange(40), 5)).values())
    assert np.bincount(classes[split.held_out]).tolist() == [20, 20]
    by_image = split_validation(classes, [""] * 200, 0.2, 3, None)
    assert any(len(sides) == 2 for sides in spread(by_image.held_out, np.repeat(np.arange(40), 5)).values())


def test_where_all_images_look_alike_nearer_ones_still_stay_together():
    """Of each class one heap; in it pairs that are nearly the same."""
    heaps = np.random.default_rng(0).standard_normal((2, 16))
    within = np.repeat(heaps, 20, axis=0) + 0.25 * np.random.default_rng(1).standard_normal((40, 16))
    points = scatter(within, 2, 0.002)
    split = split_validation(np.repeat([0, 1], 40), [""] * 80, 0.2, 0, points)
    assert split.by == "look_alikes"
    assert split.look_alike_cosine > 0.8
    assert all(len(sides) == 1 for sides in spread(split.held_out, np.repeat(np.arange(40), 2)).values())


def test_a_large_heap_is_not_held_out_whole():
    """Of class 0 thirty of forty images look alike, by chains; nearer ones among them are kept together."""
    rng = np.random.default_rng(3)
    heap = rng.standard_normal((1, 16)) + 0.25 * rng.standard_normal((30, 16))
    points = torch.from_numpy(np.concatenate([heap, rng.standard_normal((50, 16))])).float()
    classes = np.repeat([0, 1], 40)
    assert np.bincount(find_look_alikes(points, [""] * 80, 0.8)).max() == 30
    splits = [split_validation(classes, [""] * 80, 0.4, seed, points) for seed in range(20)]
    assert {split.by for split in splits} == {"look_alikes"}
    assert all(8 <= split.held_out[:40].sum() <= 24 for split in splits)
    assert any(split.look_alike_cosine > 0.8 for split in splits)


def test_images_that_are_all_the_same_are_split_by_image_and_it_is_said():
    split = split_validation(np.repeat([0, 1], 10), [""] * 20, 0.2, 0, scatter(np.eye(2), 10, 0.0))
    assert (split.by, split.look_alike_cosine) == ("image", 0)


def test_an_image_without_a_group_goes_where_its_look_alikes_go_but_groups_stay_apart():
    centres = np.random.default_rng(2).standard_normal((10, 16))
    points = scatter(np.concatenate([centres, centres]), 2, 0.01)  # every centre has four points
    groups = [f"g{n // 2}" if n % 2 == 0 else "" for n in range(40)]
    split = split_validation(np.repeat([0, 1], 20), groups, 0.2, 0, points)
    assert split.by == "group"
    assert all(len(sides) == 1 for sides in spread(split.held_out, split.units).values())
    told_apart = [f"g{n}" for n in range(40)]
    assert len(np.unique(find_look_alikes(points, told_apart, 0.8))) == 40
    assert len(np.unique(find_look_alikes(points, groups, 0.8))) < 40


def spread(held_out, keys):
    sides = defaultdict(set)
    for side, key in zip(held_out, keys, strict=True):
        sides[key].add(bool(side))
    return sides


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=6, max_size=80), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_no_group_stands_on_both_sides(items, seed):
    classes = np.array([label for label, _ in items])
    groups = [f"g{group}" for _, group in items]
    split = split_validation(classes, groups, 0.2, seed, embeddings=None)
    if split.by == "group":
        assert all(len(sides) == 1 for sides in spread(split.held_out, groups).values())


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=6, max_size=80), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_every_class_keeps_an_image_to_learn_from(items, seed):
    classes = np.unique([label for label, _ in items], return_inverse=True)[1]
    split = split_validation(classes, [f"g{group}" for _, group in items], 0.5, seed, embeddings=None)
    assert set(classes[~split.held_out]) == set(classes)


def test_without_groups_a_fifth_of_every_class_is_held_out():
    classes = np.repeat([0, 1, 2], [50, 20, 10])
    split = split_validation(classes, [""] * 80, 0.2, seed=3, embeddings=None)
    assert split.by == "image"
    assert np.bincount(classes[split.held_out]).tolist() == [10, 4, 2]


def test_two_images_of_a_class_make_one_of_each_side():
    classes = np.repeat([0, 1], 2)
    split = split_validation(classes, [""] * 4, 0.2, seed=0, embeddings=None)
    assert np.bincount(classes[split.held_out]).tolist() == [1, 1]


def test_ten_authors_give_about_a_fifth_of_every_class():
    classes = np.tile(np.repeat([0, 1], 5), 10)
    groups = [f"author-{index // 10}" for index in range(100)]
    split = split_validation(classes, groups, 0.2, seed=1, embeddings=None)
    assert split.by == "group"
    assert np.bincount(classes[split.held_out]).tolist() == [10, 10]


def test_large_groups_are_held_out_rather_than_nothing():
    classes = np.repeat([0, 1], 20)
    groups = ["monday"] * 10 + ["tuesday"] * 10 + ["monday"] * 10 + ["tuesday"] * 10
    split = split_validation(classes, groups, 0.2, seed=0, embeddings=None)
    assert split.by == "group"
    assert split.held_out.sum() == 20


def test_one_single_group_falls_back_to_images_and_says_so():
    classes = np.repeat([0, 1], 10)
    split = split_validation(classes, ["one"] * 20, 0.2, seed=0, embeddings=None)
    assert split.by == "image"
    assert np.bincount(classes[split.held_out]).tolist() == [2, 2]


def test_a_class_that_lives_in_one_group_is_learnt_not_held_out():
    classes = np.array([0] * 10 + [1] * 10)
    groups = [f"g{index}" for index in range(10)] + ["lonely"] * 10
    split = split_validation(classes, groups, 0.2, seed=0, embeddings=None)
    assert split.by == "group"
    assert not split.held_out[10:].any()
    assert split.held_out[:10].sum() == 2


def test_the_same_seed_splits_alike_and_another_one_differently():
    classes = np.repeat([0, 1], 40)
    first, again, other = (
        split_validation(classes, [""] * 80, 0.2, seed, embeddings=None).held_out for seed in (5, 5, 6)
    )
    assert (first == again).all()
    assert (first != other).any()
