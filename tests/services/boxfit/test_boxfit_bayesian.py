import subprocess
import sys
import threading
import warnings
from contextlib import closing

import numpy as np
import pytest

from services.boxfit.bayesian import INITIAL_BOXES, fit_bayesian
from services.boxfit.exact import fit_exact
from services.boxfit.fit import measure_fit
from services.boxfit.search_process import SearchProcess
from services.runtime.errors import InvalidArgument


@pytest.fixture(scope="module")
def ones():
    y, x = np.mgrid[:40, :50]
    return (x - 22) ** 2 / 200 + (y - 18) ** 2 / 90 < 1


def test_the_search_is_honest_and_never_beats_the_exact_one(ones):
    fit = fit_bayesian(ones, max_iterations=2)
    assert not fit.optimal
    assert INITIAL_BOXES < fit.evaluations <= INITIAL_BOXES + 2
    assert fit == measure_fit(ones, fit.box, fit.evaluations, optimal=False)
    assert 0.2 < fit.iou <= fit_exact(ones).iou


def test_the_same_seed_gives_the_same_box_from_any_thread_and_another_seed_another(ones):
    fits = {}
    threads = [
        threading.Thread(target=lambda name=name, seed=seed: fits.update({name: fit_bayesian(ones, 1, seed)}))
        for name, seed in (("one", 5), ("again", 5), ("other", 6))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fits["one"] == fits["again"]
    assert fits["one"].box != fits["other"].box


def test_the_global_generator_and_the_warning_filters_are_left_as_they_were(ones):
    np.random.seed(11)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(11)  # noqa: NPY002
    filters = list(warnings.filters)
    fit_bayesian(ones, max_iterations=1)
    assert warnings.filters == filters
    assert np.array_equal(np.random.random(3), expected)  # noqa: NPY002


@pytest.mark.parametrize("shape", [(1, 6), (6, 1)])
def test_a_map_of_one_row_or_column_is_searched(shape):
    fit = fit_bayesian(np.ones(shape, dtype=np.bool_), max_iterations=1)
    assert 0 < fit.iou <= 1


def test_a_single_pixel_needs_no_search():
    assert fit_bayesian(np.ones((1, 1), dtype=np.bool_)).iou == 1


def test_an_empty_map_is_refused():
    with pytest.raises(InvalidArgument, match="at least 1 pixel"):
        fit_bayesian(np.zeros((3, 4), dtype=np.bool_))


def test_the_heavy_import_waits_for_the_first_use():
    script = "import sys, services.boxfit.model; sys.exit(bool({'GPyOpt', 'GPy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_process_finds_the_same_box_as_a_search_in_place(ones):
    with closing(SearchProcess()) as process:
        assert process.fit(ones, 1, 5) == fit_bayesian(ones, 1, 5)
        with pytest.raises(InvalidArgument, match="at least 1 pixel"):
            process.fit(np.zeros((3, 4), dtype=np.bool_), 1, 5)
