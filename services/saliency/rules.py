"""How a map is made of a layer's activation and the gradient of a class's logit there.

Each takes (n, c, h, w) twice and returns (n, h, w) float32, before anything is cut off at 0; images do not feel each
other.
"""

from collections.abc import Callable

import torch

Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_LEAST = 1e-6


def grad_cam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Grad-CAM: each channel by the mean of its gradient (Selvaraju et al., ICCV 2017, eq. 1 and 2)."""
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1)


def grad_cam_plus_plus(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++: each channel by its positive gradients, weighed position by position, of an exponential score.

    Chattopadhay et al., WACV 2018, eq. 10 and 19; powers of the gradient stand for higher derivatives. What is added
    below the line is pytorch-grad-cam's, so that the values are, too: it counts where gradients are under a thousandth.
    """
    squared = gradient**2
    below = 2 * squared + activation.sum((2, 3), keepdim=True) * squared * gradient + _LEAST
    share = torch.where(gradient != 0, squared / below, 0)
    weights: torch.Tensor = (share * gradient.relu()).sum((2, 3), keepdim=True)
    return (weights * activation).sum(1)


def layer_cam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """LayerCAM: each position by its own positive gradient, so that early layers keep their detail.

    Jiang et al., IEEE TIP 2021, eq. 4 and 5.
    """
    return (gradient.relu() * activation).sum(1)


def eigen_cam(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - others need it
    """EigenCAM: the activation along its first principal component, whatever the class (Muhammad and Yeasin, 2020).

    Of the component's two signs the one is taken that is positive where the activation is high.
    """
    count, channels, height, width = activation.shape
    cells = activation.reshape(count, channels, -1).transpose(1, 2).double()  # (n, h * w, c)
    centred = cells - cells.mean(1, keepdim=True)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    along = (centred @ components[:, 0, :, None])[..., 0]
    sign = torch.where((along * centred.sum(2)).sum(1, keepdim=True) < 0, -1.0, 1.0)
    signed: torch.Tensor = along * sign
    return signed.reshape(count, height, width).to(activation.dtype)
