import numpy as np
import pytest
from anomaly_parts import draw_part, draw_parts, enroll_parts, open_bank, train_parts
from scipy.spatial.distance import mahalanobis

from services.anomaly.backbones import open_backbone
from services.anomaly.engines.padim import PadimEngine, fit_gaussians
from services.anomaly.memory import Memory
from services.anomaly.model import Detector
from services.anomaly.training import PadimOptions, load_model, save_model

OPTIONS = PadimOptions(input_side_px=192, dimension=20)


@pytest.fixture(scope="module", params=[False, True], ids=["raw", "prepared"])
def detector(request):
    return enroll_parts(train_parts(OPTIONS, prepared=request.param), draw_parts(20))


def test_distances_are_mahalanobis_distances_at_each_position():
    random = np.random.default_rng(0)
    samples = random.normal(size=(5, 40, 6)).astype(np.float16)
    queries = random.normal(size=(5, 6)).astype(np.float16)
    found = fit_gaussians(samples).measure(queries)
    for place in range(5):
        seen = samples[place].astype(np.float64)
        covariance = np.cov(seen, rowvar=False) + 0.01 * np.eye(6)
        expected = mahalanobis(queries[place], seen.mean(axis=0), np.linalg.inv(covariance))
        assert found[place] == pytest.approx(expected, rel=1e-3)


def test_a_defect_scores_higher_than_any_normal_part_and_is_hot(detector):
    normal = [detector.measure(draw_part(700 + number)) for number in range(6)]
    verdict = detector.score_image(draw_part(5, defect=True), heatmap_side=96)
    assert verdict.score > 1.5 * max(normal)
    y, x = np.unravel_index(verdict.heatmap.argmax(), verdict.heatmap.shape)
    assert (abs(x - 60) <= 12, abs(y - 30) <= 12) == (True, True)
    assert verdict.nearest_item == ""


def test_a_score_does_not_depend_on_how_the_bank_came_to_be(detector):
    model = detector.model
    bank = open_bank(model.engine.layout)
    empty = Detector(model, bank.snapshot, None, detector.device)
    parts = dict(enumerate(draw_parts(20)))
    for number in (7, 3, 12):
        bank.enroll([(str(number), "", empty.contribute_item(parts.pop(number)))])
    bank.enroll([("stranger", "", empty.contribute_item(draw_part(900, defect=True)))])
    bank.enroll([(str(number), "", empty.contribute_item(part)) for number, part in parts.items()])
    bank.forget(["stranger"])
    again = Detector(model, bank.snapshot, None, detector.device)
    for seed in (1, 701):
        assert again.measure(draw_part(seed)) == detector.measure(draw_part(seed))


def test_leaving_items_out_is_having_never_enrolled_them(detector):
    fewer = enroll_parts(detector.model, draw_parts(15))
    left_out = frozenset(map(str, range(15, 20)))
    assert detector.measure(draw_part(3), left_out) == fewer.measure(draw_part(3))
    assert detector.measure(draw_part(3)) != fewer.measure(draw_part(3))


def test_a_single_normal_is_enough_to_compare_with(detector):
    alone = enroll_parts(detector.model, draw_parts(1))
    assert alone.measure(draw_part(0)) == 0
    assert alone.measure(draw_part(0, defect=True)) > alone.measure(draw_part(1))


def test_images_of_any_shape_have_the_same_positions():
    detector = enroll_parts(train_parts(OPTIONS), draw_parts(6))
    wide = np.hstack([draw_part(1), draw_part(2)])
    assert np.isfinite(detector.measure(wide))
    assert detector.score_image(wide, heatmap_side=64).heatmap.shape == (32, 64)


def test_a_model_is_read_back_as_it_was(detector):
    again = load_model(save_model(detector.model), detector.device)
    assert again.plan == detector.model.plan
    assert Detector(again, detector.normals, None, detector.device).measure(draw_part(1)) == detector.measure(
        draw_part(1)
    )


def test_channels_are_drawn_by_the_seed_and_all_are_kept_where_there_are_fewer():
    backbone = open_backbone("small", None)
    engines = [PadimEngine(backbone, 64, 30, seed, None) for seed in (0, 0, 1)]
    drawn = [engine._channels.tolist() for engine in engines]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 30
    assert PadimEngine(backbone, 64, 600, 0, None).layout.dimension == backbone.level_channels


def test_what_was_made_is_made_again_only_for_another_selection():
    made = []
    memory = Memory()

    def recall(*exclude):
        return memory.recall(frozenset(exclude), lambda: made.append(exclude) or len(made))

    assert [recall(), recall("a"), recall("a"), recall(), recall("b"), recall("a"), recall()] == [1, 2, 2, 1, 3, 4, 1]


def test_a_new_version_of_a_bank_is_ready_before_it_is_shown():
    ready = []
    model = train_parts(OPTIONS)
    detector = enroll_parts(model, draw_parts(2))
    bank = open_bank(model.engine.layout)
    bank._prepare = lambda snapshot: ready.append((snapshot.version, bank.snapshot.version))
    bank.enroll([("0", "", detector.contribute_item(draw_part(0)))])
    bank.enroll([("1", "", detector.contribute_item(draw_part(1)))])
    bank.forget(["0", "1"])
    assert ready == [(1, 0), (2, 1)]
    assert bank.snapshot.version == 3
