"""The rules that maps are made by, against their formulas written out."""

import numpy as np
import pytest
import torch

from services.saliency.rules import eigen_cam, grad_cam, grad_cam_plus_plus, layer_cam

RULES = [grad_cam, grad_cam_plus_plus, layer_cam, eigen_cam]


def draw(seed=0, shape=(2, 5, 4, 6)):
    random = np.random.default_rng(seed)
    return np.maximum(random.normal(0, 1, shape), 0), random.normal(0, 1, shape)


def call(rule, activation, gradient):
    return rule(torch.from_numpy(activation).float(), torch.from_numpy(gradient).float()).numpy()


def test_grad_cam_weighs_channels_by_their_mean_gradient():
    activation, gradient = draw()
    expected = np.einsum("nc,nchw->nhw", gradient.mean((2, 3)), activation)
    assert np.allclose(call(grad_cam, activation, gradient), expected, atol=1e-5)


def test_grad_cam_plus_plus_position_by_position():
    activation, gradient = draw(1)
    gradient[0, 0] = 0
    count, channels, height, width = activation.shape
    expected = np.zeros((count, height, width))
    for image in range(count):
        for channel in range(channels):
            total, weight = activation[image, channel].sum(), 0.0
            for y in range(height):
                for x in range(width):
                    slope = gradient[image, channel, y, x]
                    if slope > 0:
                        weight += slope**2 / (2 * slope**2 + total * slope**3 + 1e-6) * slope
            expected[image] += weight * activation[image, channel]
    assert np.allclose(call(grad_cam_plus_plus, activation, gradient), expected, rtol=1e-4, atol=1e-5)


def test_layer_cam_weighs_positions_by_their_own_positive_gradient():
    activation, gradient = draw(2)
    expected = (np.maximum(gradient, 0) * activation).sum(1)
    assert np.allclose(call(layer_cam, activation, gradient), expected, atol=1e-5)


def test_eigen_cam_is_the_first_principal_component_of_the_positions():
    activation, gradient = draw(3)
    found = call(eigen_cam, activation, gradient)
    for image in range(2):
        cells = activation[image].reshape(5, -1).T
        values, vectors = np.linalg.eigh(np.cov(cells.T))
        along = (cells - cells.mean(0)) @ vectors[:, values.argmax()]
        assert np.allclose(np.abs(found[image].ravel()), np.abs(along), atol=1e-4)
        assert np.corrcoef(found[image].ravel(), cells.sum(1))[0, 1] > 0  # the sign: high where the activation is


@pytest.mark.parametrize("rule", RULES)
def test_images_do_not_feel_each_other(rule):
    activation, gradient = draw(4, (3, 4, 5, 5))
    together = call(rule, activation, gradient)
    for image in range(3):
        alone = call(rule, activation[image : image + 1], gradient[image : image + 1])
        assert np.allclose(together[image], alone[0], atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 1, 4), (2, 7, 2, 2)])
def test_a_dead_layer_or_a_tiny_one_gives_numbers(rule, shape):
    zeros = np.zeros(shape)
    assert not call(rule, zeros, zeros).any()
    assert np.isfinite(call(rule, *draw(5, shape))).all()
