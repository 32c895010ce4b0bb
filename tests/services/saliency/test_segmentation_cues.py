import numpy as np

from services.saliency.segmentation.cues import find_cues


def test_cues_are_where_a_map_is_loud_and_background_where_all_are_quiet():
    maps = np.zeros((2, 1, 10), np.float32)
    maps[0, 0] = [1.0, 0.9, 0.3, 0.15, 0.1, 0.05, 0.04, 0.03, 0.02, 0.01]
    cues = find_cues(maps, np.array([True, False]), object_share=0.2, background_share=0.25)
    assert np.flatnonzero(cues[1, 0]).tolist() == [0, 1, 2]
    assert not cues[2].any()
    assert np.flatnonzero(cues[0, 0]).tolist() == [7, 8, 9]


def test_of_two_classes_the_smaller_one_has_what_both_claim():
    maps = np.zeros((2, 1, 8), np.float32)
    maps[0, 0, :6] = 1
    maps[1, 0, 4:6] = 5
    cues = find_cues(maps, np.array([True, True]), background_share=0.0)
    assert np.flatnonzero(cues[1, 0]).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(cues[2, 0]).tolist() == [4, 5]


def test_no_position_is_of_two_classes():
    random = np.random.default_rng(0)
    for _ in range(20):
        cues = find_cues(random.random((3, 6, 6), np.float32), np.array([True, False, True]), 0.5, 0.3)
        assert cues.sum(0).max() <= 1


def test_an_image_without_objects_is_background_everywhere():
    cues = find_cues(np.ones((2, 3, 3), np.float32), np.array([False, False]))
    assert cues[0].all()
    assert not cues[1:].any()


def test_a_class_whose_map_says_nothing_gets_no_cue():
    cues = find_cues(np.zeros((1, 3, 3), np.float32), np.array([True]))
    assert not cues[1].any()
