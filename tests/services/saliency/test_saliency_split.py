from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.saliency.split import split_validation


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
    split = split_validation(classes, groups, 0.2, seed)
    if split.by == "group":
        assert all(len(sides) == 1 for sides in spread(split.held_out, groups).values())


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=6, max_size=80), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_every_class_keeps_an_image_to_learn_from(items, seed):
    classes = np.unique([label for label, _ in items], return_inverse=True)[1]
    split = split_validation(classes, [f"g{group}" for _, group in items], 0.5, seed)
    assert set(classes[~split.held_out]) == set(classes)


def test_without_groups_a_fifth_of_every_class_is_held_out():
    classes = np.repeat([0, 1, 2], [50, 20, 10])
    split = split_validation(classes, [""] * 80, 0.2, seed=3)
    assert split.by == "image"
    assert np.bincount(classes[split.held_out]).tolist() == [10, 4, 2]


def test_two_images_of_a_class_make_one_of_each_side():
    classes = np.repeat([0, 1], 2)
    split = split_validation(classes, [""] * 4, 0.2, seed=0)
    assert np.bincount(classes[split.held_out]).tolist() == [1, 1]


def test_ten_authors_give_about_a_fifth_of_every_class():
    classes = np.tile(np.repeat([0, 1], 5), 10)
    groups = [f"author-{index // 10}" for index in range(100)]
    split = split_validation(classes, groups, 0.2, seed=1)
    assert split.by == "group"
    assert np.bincount(classes[split.held_out]).tolist() == [10, 10]


def test_large_groups_are_held_out_rather_than_nothing():
    classes = np.repeat([0, 1], 20)
    groups = ["monday"] * 10 + ["tuesday"] * 10 + ["monday"] * 10 + ["tuesday"] * 10
    split = split_validation(classes, groups, 0.2, seed=0)
    assert split.by == "group"
    assert split.held_out.sum() == 20


def test_one_single_group_falls_back_to_images_and_says_so():
    classes = np.repeat([0, 1], 10)
    split = split_validation(classes, ["one"] * 20, 0.2, seed=0)
    assert split.by == "image"
    assert np.bincount(classes[split.held_out]).tolist() == [2, 2]


def test_a_class_that_lives_in_one_group_is_learnt_not_held_out():
    classes = np.array([0] * 10 + [1] * 10)
    groups = [f"g{index}" for index in range(10)] + ["lonely"] * 10
    split = split_validation(classes, groups, 0.2, seed=0)
    assert split.by == "group"
    assert not split.held_out[10:].any()
    assert split.held_out[:10].sum() == 2


def test_the_same_seed_splits_alike_and_another_one_differently():
    classes = np.repeat([0, 1], 40)
    first, again, other = (split_validation(classes, [""] * 80, 0.2, seed).held_out for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()
