import os
import subprocess
import sys

import numpy as np
import pytest

from services.boxfit import model
from services.boxfit.model import Box, FitOptions, FitTask, Method, ObjectFit, fit_box, fit_tasks, threshold_map
from services.runtime.errors import InvalidArgument


def test_the_exact_box_is_the_default():
    ones = np.zeros((10, 10), dtype=np.bool_)
    ones[2:5, 3:9] = True
    ones[8, 8] = True
    assert fit_box(ones).optimal
    assert fit_box(ones) == fit_box(ones, FitOptions(Method.EXACT))
    assert fit_box(ones, FitOptions(Method.TIGHT)).evaluations == 2


def test_the_exact_box_is_never_worse_than_the_tight_one():
    for seed in range(20):
        ones = np.random.default_rng(seed).random((25, 30)) < 0.3
        assert fit_box(ones).iou >= fit_box(ones, FitOptions(Method.TIGHT)).iou


def test_a_soft_map_is_cut_at_a_fraction_of_its_maximum():
    heat = np.array([[0.0, 0.59, 0.6, 2.0]], dtype=np.float32)
    assert threshold_map(heat).tolist() == [[False, False, True, True]]
    assert threshold_map(heat, 0.5).tolist() == [[False, False, False, True]]
    assert threshold_map(heat * 1e-30).tolist() == [[False, False, True, True]]


def test_a_soft_map_of_zeros_has_no_pixel():
    assert not threshold_map(np.zeros((4, 4), dtype=np.float32)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_soft_map_that_is_not_finite_is_refused(value):
    with pytest.raises(InvalidArgument, match="finite"):
        threshold_map(np.full((2, 2), value, dtype=np.float32))


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_outside_of_its_range_is_refused(threshold):
    with pytest.raises(InvalidArgument, match=r"options.threshold: must be between 0 and 1"):
        FitOptions(threshold=threshold)


@pytest.mark.parametrize("count", [0, 201])
def test_a_number_of_iterations_outside_of_its_range_is_refused(count):
    with pytest.raises(InvalidArgument, match=rf"options.max_iterations: must be 1 to 200, is {count}"):
        FitOptions(max_iterations=count)


def test_a_coarse_map_is_fitted_in_pixels_of_the_image():
    heat = np.zeros((7, 7), dtype=np.float32)
    heat[2:5, 1:4] = 1
    ((found,),) = fit_tasks([FitTask(heat, FitOptions(threshold=0.5), size=(700, 350))])
    fit = found.fit
    # Between centres of cells the linear ramp reaches one half at their common edge; corners are rounder.
    assert fit.box == Box(100, 100, 400, 250)
    assert fit.iou > 0.95


def test_a_bad_task_leaves_the_others_alone():
    good = np.ones((3, 3), dtype=np.bool_)
    options = FitOptions()
    fits = fit_tasks([FitTask(good, options), FitTask(~good, options), FitTask(good, options)])
    assert fits[0] == fits[2] == (ObjectFit(fit_box(good), 1.0),)
    assert isinstance(fits[1], InvalidArgument)


def test_what_an_image_holds_compiled_is_taken_from_it(tmp_path):
    made, cache = tmp_path / "app/compiled", tmp_path / "cache"
    warm = "from services.boxfit import model; model._PREBUILT = __import__('pathlib').Path({!r}); model.warm_up()"

    def run(folder, prebuilt):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "NUMBA_DEBUG_CACHE": "1"}
        code = warm.format(str(prebuilt))
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout

    assert b"data saved" in run(made, tmp_path / "none")
    shown = run(cache, made)
    assert b"data loaded" in shown
    assert b"data saved" not in shown


def test_a_cache_that_cannot_be_written_to_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "compiled").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(model, "_PREBUILT", tmp_path / "compiled")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    model.warm_up()
