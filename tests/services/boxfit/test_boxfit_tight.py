import numpy as np
import pytest

from services.boxfit.fit import Box
from services.boxfit.tight import fit_tight
from services.runtime.errors import InvalidArgument


def test_the_largest_component_is_boxed():
    ones = np.zeros((30, 40), dtype=np.bool_)
    ones[2:6, 3:9] = True
    ones[10:20, 15:35] = True
    ones[14, 35:38] = True
    fit = fit_tight(ones)
    assert fit.box == Box(15, 10, 38, 20)
    assert (fit.intersection, fit.union) == (203, 230 + 24)
    assert fit.evaluations == 2
    assert not fit.optimal


def test_pixels_that_touch_at_a_corner_belong_together():
    assert fit_tight(np.eye(5, dtype=np.bool_)).box == Box(0, 0, 5, 5)


def test_of_equal_components_the_left_one_is_boxed():
    ones = np.zeros((20, 20), dtype=np.bool_)
    ones[1:4, 12:15] = ones[12:15, 2:5] = True
    assert fit_tight(ones).box == Box(2, 12, 5, 15)


def test_an_empty_map_is_refused():
    with pytest.raises(InvalidArgument, match="at least 1 pixel"):
        fit_tight(np.zeros((3, 4), dtype=np.bool_))
