import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from anomaly_parts import SILENT, draw_part, draw_parts, enroll_parts, train_parts

from services.anomaly.backbones import open_backbone
from services.anomaly.engines.coreset import choose_spread
from services.anomaly.engines.defects import DISTORTION, LINE, NORMAL, PartLocator, distort, draw_line, make_batch
from services.anomaly.engines.examples import Batch, see_cells
from services.anomaly.engines.levels import join_levels
from services.anomaly.engines.losses import AdaCos, ArcFace, L2Softmax, open_loss
from services.anomaly.engines.metric import OutlierFactor, compute_grad_cam
from services.anomaly.engines.training import Journal, Lesson, train_metric
from services.anomaly.filters import FilterBank
from services.anomaly.frames import to_tensor
from services.anomaly.training import MetricOptions
from services.runtime.errors import Cancelled, InvalidArgument


def draw_scene(x, y):
    image = np.full((64, 64, 3), 100, np.uint8)
    cv2.rectangle(image, (x, y), (x + 15, y + 9), (200, 200, 200), -1)
    return image


# --- where the part is, and defects made on it


def test_a_part_in_varying_pose_is_found_by_its_difference_to_the_mean():
    images = np.stack([draw_scene(4 + 5 * (n % 9), 4 + 7 * (n % 7)) for n in range(60)])
    part = PartLocator.of(images).locate(draw_scene(20, 30))
    truth = np.zeros((64, 64), bool)
    truth[30:40, 20:36] = True
    assert (part & truth).sum() / (part | truth).sum() > 0.7


def test_where_nothing_differs_from_the_mean_the_whole_image_is_the_part():
    images = np.stack([draw_scene(10, 10)] * 3)
    assert PartLocator.of(images).locate(images[0]).all()


@pytest.mark.parametrize("damage", [draw_line, distort])
def test_a_defect_is_small_and_on_the_part(damage):
    part = np.zeros((64, 64), bool)
    part[20:50, 10:54] = True
    for seed in range(40):
        texture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        image = texture.copy()
        damage(image, part, np.random.default_rng(seed))
        changed = (image != texture).any(axis=2)
        assert 0 < changed.mean() < 0.25
        assert (changed & part).any()


def test_a_batch_holds_every_class_and_leaves_normal_images_alone():
    images = np.stack([draw_scene(20, 20)] * 60)
    parts = np.ones((60, 64, 64), bool)
    batch, classes = make_batch(images, parts, 3, np.random.default_rng(0))
    assert {NORMAL, LINE, DISTORTION} == set(classes.tolist())
    assert (batch[classes == NORMAL] == images[0]).all()
    assert all((image != images[0]).any() for image in batch[classes == LINE])
    assert set(make_batch(images, parts, 2, np.random.default_rng(0))[1].tolist()) == {NORMAL, LINE}
    again, _ = make_batch(images, parts, 3, np.random.default_rng(0))
    assert (again == batch).all()


# --- losses, against their formulas computed plainly

FEATURES = torch.tensor(np.random.default_rng(3).normal(size=(5, 7)), dtype=torch.float32)
CLASSES = torch.tensor([0, 1, 2, 1, 0])


def cosines_of(head):
    unit = FEATURES / FEATURES.norm(dim=1, keepdim=True)
    return unit @ (head.weight / head.weight.norm(dim=1, keepdim=True)).T


def softmax_loss(logits):
    return -torch.stack([logits[n].softmax(0)[c].log() for n, c in enumerate(CLASSES)]).mean().item()


def test_l2_softmax_is_softmax_of_features_of_fixed_length():
    head = L2Softmax(7, 3)
    logits = torch.stack([head.linear(16 * feature / feature.norm()) for feature in FEATURES])
    assert head.loss(FEATURES, CLASSES).item() == pytest.approx(softmax_loss(logits), rel=1e-5)
    assert torch.allclose(head.logits(FEATURES), head.logits(100 * FEATURES), atol=1e-4)


def test_arcface_adds_its_margin_to_the_angle_of_the_own_class():
    head = ArcFace(7, 3)
    angles = cosines_of(head).clamp(-1, 1).acos()
    for n, c in enumerate(CLASSES):
        assert angles[n, c] + 0.5 < math.pi  # the plain formula holds for these
        angles[n, c] += 0.5
    assert head.loss(FEATURES, CLASSES).item() == pytest.approx(softmax_loss(64 * angles.cos()), rel=1e-4)
    assert torch.allclose(head.logits(FEATURES), 64 * cosines_of(head), atol=1e-4)


def test_arcface_costs_more_the_larger_the_angle_even_beyond_pi():
    head = ArcFace(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0], [0, 1]]))
    angles = torch.linspace(0, math.pi, 30)
    points = torch.stack([angles.cos(), -angles.sin()], dim=1)
    costs = [head.loss(point[None], torch.tensor([0])).item() for point in points]
    assert all(later > earlier - 1e-4 for earlier, later in pairwise(costs))


def test_adacos_starts_and_moves_its_scale_as_the_paper_says():
    head = AdaCos(7, 3)
    assert float(head.scale) == pytest.approx(math.sqrt(2) * math.log(2))
    cosines, before = cosines_of(head).detach(), float(head.scale)
    others = np.mean([sum(math.exp(before * cosines[n, j]) for j in range(3) if j != c) for n, c in enumerate(CLASSES)])
    median = float(torch.stack([cosines[n, c] for n, c in enumerate(CLASSES)]).acos().median())
    scale = math.log(others) / math.cos(min(math.pi / 4, median))
    assert head.loss(FEATURES, CLASSES).item() == pytest.approx(softmax_loss(scale * cosines), rel=1e-4)
    assert float(head.scale) == pytest.approx(scale, rel=1e-5)


def test_adacos_over_two_classes_and_unknown_losses_are_refused():
    with pytest.raises(InvalidArgument, match="at least 3"):
        open_loss("adacos", 7, 2)
    with pytest.raises(InvalidArgument, match="triplet"):
        open_loss("triplet", 7, 3)


# --- what is learned from a batch


def make_seen(kind):
    """One image whose cell (2, 3) of stride 8 is changed, and one that is not; the part is the upper half."""
    originals = np.full((2, 64, 64, 3), 100, np.uint8)
    made = originals.copy()
    made[0, 16:24, 24:32] = 180
    made[0, 24:26, 24:25] = 180  # the cell below it is only touched
    parts = np.zeros((2, 64, 64), bool)
    parts[:, :32] = True
    return Batch(originals, made, np.array([kind, NORMAL]), parts)


@pytest.mark.parametrize("kind", [LINE, DISTORTION])
def test_cells_have_the_class_of_the_defect_that_changed_them(kind):
    backbone = open_backbone("small", None)
    vectors, classes = see_cells(backbone, make_seen(kind), np.random.default_rng(0))
    assert classes.tolist() == [kind] + [NORMAL] * (2 * 4 * 8 - 2)  # of the upper halves, without the touched one
    image = to_tensor(make_seen(kind).images[:1])
    assert torch.allclose(vectors[0], join_levels(backbone.levels(image))[0, :, 2, 3], atol=1e-5)


def test_a_batch_of_large_defects_has_as_many_normal_cells_as_defective_ones():
    batch = make_seen(LINE)
    batch.images[0, :32] = 180
    batch.images[0, :16, :16] = 100
    images = np.concatenate([batch.images] * 4)
    many = Batch(np.concatenate([batch.originals] * 4), images, np.tile(batch.classes, 4), np.ones((8, 64, 64), bool))
    _, classes = see_cells(open_backbone("small", None), many, np.random.default_rng(0))
    assert int((classes == LINE).sum()) == int((classes == NORMAL).sum()) == 4 * 28


# --- training


def make_lesson(epochs, seed=0):
    images = np.stack([np.dstack([draw_part(n)] * 3)[16:80, 16:80] for n in range(36)])
    return Lesson(images, np.ones(images.shape[:3], bool), 3, epochs, 2e-3, 2e-3, seed)


def weigh(backbone, head):
    tensors = {**backbone.module().state_dict(), **head.module().state_dict()}
    return {name: value.clone() for name, value in tensors.items()}


def train(epochs, journal, lesson=None):
    backbone = open_backbone("small", None)
    torch.manual_seed(0)
    head = open_loss("adacos", backbone.channels, 3)
    train_metric(backbone, head, lesson or make_lesson(epochs), journal)
    return weigh(backbone, head)


def test_a_resumed_training_ends_in_the_same_bits_as_one_never_interrupted():
    saved, told = [], []
    whole = train(3, Journal(told.append, saved.append))
    assert [progress.epoch for progress in told] == [1, 2, 3]
    assert len(saved) == 2
    resumed = train(3, Journal(lambda progress: None, lambda data: None, saved[0]))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_whoever_listens_can_end_a_training():
    def stop(progress):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        train(3, Journal(stop, lambda data: None))


def test_a_last_batch_of_one_image_is_no_trouble():
    lesson = make_lesson(1)
    train(1, SILENT, Lesson(lesson.images[:33], lesson.parts[:33], 3, 1))


# --- scores and heat maps of the metric engine


def test_the_outlier_factor_is_about_one_inside_and_large_outside():
    normals = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float16)
    inside = OutlierFactor(normals).measure(np.zeros((1, 4), np.float16))
    outside = OutlierFactor(normals).measure(np.full((1, 4), 9, np.float16))
    assert inside < 1.2
    assert outside > 3
    assert OutlierFactor(normals[:1]).measure(normals[:1]) == 1


class OneMap:
    """A backbone whose features are the image, and a head that wants channel 1."""

    channels = 3

    def features(self, images):
        return images

    def logits(self, features):
        return torch.stack([features[:, 0], features[:, 1]], dim=1)


def test_grad_cam_shows_what_raises_the_made_up_class_and_needs_no_hooks():
    image = torch.zeros(1, 3, 4, 4)
    image[0, 0, 0, 0] = image[0, 1, 2, 3] = 5
    heat = compute_grad_cam(OneMap(), OneMap(), image)
    assert np.argwhere(heat).tolist() == [[2, 3]]
    assert heat.max() == 1


@pytest.mark.parametrize(("loss", "classes"), [("adacos", 3), ("arcface", 2), ("l2_softmax", 3)])
def test_each_metric_detector_scores_itself_lowest_and_shows_where(loss, classes):
    model = train_parts(MetricOptions("original", loss, classes, epochs=1, input_side_px=64))
    detector = enroll_parts(model, draw_parts(8))
    verdict = detector.score_image(draw_part(3), heatmap_side=48)
    assert verdict.nearest_item == "3"
    if loss != "l2_softmax":
        assert verdict.score == 0
    assert verdict.score <= detector.measure(draw_part(77, defect=True))
    assert verdict.heatmap.shape == (48, 48)
    assert 0 <= verdict.heatmap.min() <= verdict.heatmap.max() <= 1


def test_metric_learning_tells_drawn_defects_from_normal_parts():
    model = train_parts(MetricOptions("original", "arcface", 2, epochs=25, input_side_px=96), count=32)
    detector = enroll_parts(model, draw_parts(32))
    good = [detector.measure(draw_part(100 + n)) for n in range(8)]
    bad = [detector.measure(draw_part(200 + n, defect=True)) for n in range(8)]
    assert np.median(bad) > max(good)


def test_a_network_that_learned_from_cells_tells_defects_it_never_saw_and_shows_where():
    model = train_parts(MetricOptions("patches", epochs=10, input_side_px=96, same_place=True), prepared=True, count=16)
    detector = enroll_parts(model, draw_parts(16))
    good = [detector.measure(draw_part(100 + n)) for n in range(8)]
    bad = [detector.measure(draw_part(200 + n, defect=True)) for n in range(8)]
    assert min(bad) > max(good)
    heat = detector.score_image(draw_part(205, defect=True), heatmap_side=96).heatmap
    assert heat[24:36, 54:66].max() > 2 * heat[:, :30].max()  # the defect, and the other end of the bar
    assert detector.measure(draw_part(3)) == 0


# --- coreset


def test_the_coreset_leaves_nothing_far_from_a_chosen_vector():
    random = np.random.default_rng(0)
    centres = random.normal(size=(12, 64)) * 20
    vectors = (np.repeat(centres, 30, axis=0) + random.normal(size=(360, 64))).astype(np.float32)
    chosen = choose_spread(vectors, 12)
    assert sorted(chosen // 30) == list(range(12))  # one of each clump, which random choice would miss
    assert (choose_spread(vectors, 12) == chosen).all()
    assert (choose_spread(vectors, 400) == np.arange(360)).all()


def test_unit_features_have_length_one():
    model = train_parts(MetricOptions("original", "adacos", 3, epochs=1, input_side_px=64))
    embedding = enroll_parts(model, draw_parts(2)).contribute_item(draw_part(0))
    assert np.linalg.norm(embedding.vectors.astype(np.float64)) == pytest.approx(1, abs=2e-3)


def test_filters_answer_to_edges_by_direction_and_to_colour():
    filters = FilterBank()
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:, 32:] = 200
    image[:32, :16] = (200, 100, 0)  # as bright as the grey
    fine, coarse = (level[0].numpy() for level in filters.levels(to_tensor(image)))
    assert fine.shape == (18, 8, 8)
    assert coarse.shape == (18, 4, 4)
    rising, falling = fine[3], fine[5]  # the finest scale: to the right, and to the left
    assert rising[6, 3:5].min() > 10 * max(rising[6, 7], falling[6, 4], 0.01)
    assert abs(fine[1, 1, 1] - fine[1, 6, 1]) > 1


def test_filters_are_scaled_by_what_varies_between_normals():
    random = np.random.default_rng(0)
    cells = random.normal(120, 40, (6, 8, 8, 3)).clip(0, 255).astype(np.uint8)
    images = [to_tensor(image.repeat(8, axis=0).repeat(8, axis=1)) for image in cells]
    filters = FilterBank()
    assert filters.fit(images) == 6
    one, two = (filters.levels(image)[0] for image in images[:2])
    assert 0.5 < float((one - two).square().mean(dim=(0, 2, 3)).div(2).sqrt().mean()) < 1.5
    assert FilterBank().fit(images[:1]) == 1  # nothing to compare: the scale stays
