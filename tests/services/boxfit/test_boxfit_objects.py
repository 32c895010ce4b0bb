"""Several objects in one map, their number unknown."""

import numpy as np
import pytest

from services.boxfit.basins import label_basins
from services.boxfit.fit import Box
from services.boxfit.model import FitOptions, FitTask, Method, ObjectOptions, fit_task
from services.boxfit.objects import ObjectSearch
from services.runtime.errors import InvalidArgument


def bump(*places, size=(60, 90), spread=5.0):
    """Bumps at (x, y, height)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    bumps = [height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * spread**2)) for x, y, height in places]
    return np.max(bumps, axis=0).astype(np.float32)


def find(map_, method=Method.EXACT, threshold=0.3, **options):
    objects = ObjectOptions(**{"max_objects": 9} | options)
    return fit_task(FitTask(map_, FitOptions(method, threshold, objects=objects)))


def centres(found):
    boxes = [one.fit.box for one in found]
    return [((box.x_min + box.x_max) // 2, (box.y_min + box.y_max) // 2) for box in boxes]


@pytest.mark.parametrize("method", [Method.EXACT, Method.SOFT, Method.TIGHT])
def test_each_bump_gets_a_box_the_highest_first_though_their_feet_touch(method):
    found = find(bump((20, 20, 1.0), (42, 20, 0.6), (70, 40, 0.8)), method)
    assert np.allclose(centres(found), [(20, 20), (70, 40), (42, 20)], atol=1)
    assert [round(one.share, 1) for one in found] == [1.0, 0.8, 0.6]


def test_a_weak_bump_is_no_object_and_the_number_is_bounded():
    heat = bump((20, 20, 1.0), (70, 40, 0.3))
    assert len(find(heat)) == 1
    assert len(find(heat, least_share=0.2)) == 2
    assert len(find(bump((20, 20, 1.0), (50, 20, 0.9), (70, 40, 0.8)), max_objects=2)) == 2


def test_a_ripple_is_no_object_of_its_own():
    rippled = bump((30, 30, 1.0), (37, 30, 0.9))  # the pass between them is at .78 of the lower one
    assert len(find(rippled, least_dip=0.5)) == 1
    assert len(find(rippled, least_dip=0.05)) == 2


def test_an_object_is_cut_at_its_own_height():
    """A second object half as high has the same box."""
    low, high = find(bump((20, 30, 1.0), (65, 30, 0.5)))
    sizes = [(box.x_max - box.x_min, box.y_max - box.y_min) for box in (low.fit.box, high.fit.box)]
    assert sizes[0] == sizes[1]


def test_one_object_is_the_whole_map():
    (found,) = find(bump((20, 20, 1.0), (50, 20, 0.9)), max_objects=1)
    assert found.fit.box.x_max > 50
    assert found.fit.box.x_min < 20


@pytest.mark.parametrize("search", list(ObjectSearch))
def test_components_of_a_binary_map_are_objects_the_largest_first(search):
    ones = np.zeros((40, 60), dtype=np.bool_)
    ones[2:12, 3:13] = ones[20:38, 30:58] = True
    ones[1, 50] = True
    boxes = [one.fit.box for one in find(ones, search=search, least_share=0.1)]
    assert boxes == [Box(30, 20, 58, 38), Box(3, 2, 13, 12)]


def test_suppression_finds_the_same_bumps_and_ends_by_itself():
    heat = bump((20, 20, 1.0), (70, 40, 0.9))
    found = find(heat, search=ObjectSearch.SUPPRESSION)
    assert np.allclose(sorted(centres(found)), [(20, 20), (70, 40)], atol=1)


def test_a_map_of_zeros_has_no_object():
    with pytest.raises(InvalidArgument, match="map"):
        find(np.zeros((4, 5), np.float32))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_objects": 0}, "max_objects"),
        ({"max_objects": 101}, "max_objects"),
        ({"least_share": 0.0}, "least_share"),
        ({"least_dip": 1.5}, "least_dip"),
        ({"least_dip": float("nan")}, "least_dip"),
    ],
)
def test_options_outside_of_their_range_are_refused(options, field):
    with pytest.raises(InvalidArgument) as refused:
        ObjectOptions(**options)
    assert refused.value.field == f"options.{field}"


def test_bayesian_search_knows_one_object():
    with pytest.raises(InvalidArgument, match="BAYESIAN"):
        FitOptions(Method.BAYESIAN, objects=ObjectOptions(max_objects=2))


def test_basins_split_a_plateau_from_its_neighbour_and_leave_the_ground_out():
    heat = np.array([[0.0, 2, 2, 2, 1, 3, 3, 0.0]], np.float32)
    assert label_basins(heat, 0.5, 0.4).tolist() == [[0, 2, 2, 2, 1, 1, 1, 0]]
    assert label_basins(heat, 0.5, 0.6).tolist() == [[0, 1, 1, 1, 1, 1, 1, 0]]
