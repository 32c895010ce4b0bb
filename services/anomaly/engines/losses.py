"""Three ways to pull classes apart by angle. Each is a head: unit features times unit class weights give cosines."""

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from services.runtime.errors import InvalidArgument

L2_SOFTMAX, ARCFACE, ADACOS = "l2_softmax", "arcface", "adacos"


class MetricLoss(Protocol):
    """A head over features (n, d) and classes (n,)."""

    def loss(self, features: Tensor, classes: Tensor) -> Tensor:
        """The scalar to minimise; features need not have unit length."""
        ...

    def logits(self, features: Tensor) -> Tensor:
        """(n, classes) how much each class is meant, without a margin."""
        ...

    def module(self) -> nn.Module:
        """The parameters and the state, to train and to save."""
        ...


def open_loss(name: str, dimension: int, classes: int) -> MetricLoss:
    """The loss `name` over `classes` classes of features with `dimension` channels.

    Raises:
        InvalidArgument: an unknown name, or AdaCos over two classes, where its scale would be 0.
    """
    if name == L2_SOFTMAX:
        return L2Softmax(dimension, classes)
    if name == ARCFACE:
        return ArcFace(dimension, classes)
    if name == ADACOS:
        return AdaCos(dimension, classes)
    raise InvalidArgument("loss", f"must be {L2_SOFTMAX!r}, {ARCFACE!r} or {ADACOS!r}, got {name!r}")


class L2Softmax(nn.Module):
    """-log softmax(W . a x / |x| + b)[y] with a fixed length a.

    Ranjan, Castillo and Chellappa, "L2-constrained softmax loss for discriminative face verification", 2017, eq. 3. The
    shortest useful length is log(p (C - 2) / (1 - p)) for C classes and probability p (eq. 9), which is below 5 for a
    few classes; 16 is among the fixed lengths that the paper finds to work (section 5.1).
    """

    _LENGTH = 16.0

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dimension, classes)

    def logits(self, features: Tensor) -> Tensor:
        """See `MetricLoss`."""
        logits: Tensor = self.linear(self._LENGTH * functional.normalize(features))
        return logits

    def loss(self, features: Tensor, classes: Tensor) -> Tensor:
        """See `MetricLoss`."""
        return functional.cross_entropy(self.logits(features), classes)

    def module(self) -> nn.Module:
        """See `MetricLoss`."""
        return self


class ArcFace(nn.Module):
    """-log softmax(s cos(t_c + m [c = y]))[y], t_c the angle between feature and class weight c.

    Deng, Guo, Xue and Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019, eq. 3;
    s = 64 and m = 0.5 as in section 3.1. Where t + m passes pi the cosine is continued by its tangent's height, as in
    the authors' code, so that a larger angle never costs less.
    """

    _SCALE, _MARGIN = 64.0, 0.5

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dimension)))

    def cosines(self, features: Tensor) -> Tensor:
        """(n, classes) of the angles t_c."""
        return functional.linear(functional.normalize(features), functional.normalize(self.weight))

    def logits(self, features: Tensor) -> Tensor:
        """See `MetricLoss`."""
        return self._SCALE * self.cosines(features)

    def loss(self, features: Tensor, classes: Tensor) -> Tensor:
        """See `MetricLoss`."""
        cosines = self.cosines(features)
        sines = (1 - cosines.square()).clamp(min=1e-9).sqrt()
        shifted = cosines * math.cos(self._MARGIN) - sines * math.sin(self._MARGIN)
        beyond = cosines - math.sin(self._MARGIN) * self._MARGIN
        with_margin = torch.where(cosines > -math.cos(self._MARGIN), shifted, beyond)
        own = functional.one_hot(classes, cosines.shape[1]).bool()
        return functional.cross_entropy(self._SCALE * torch.where(own, with_margin, cosines), classes)

    def module(self) -> nn.Module:
        """See `MetricLoss`."""
        return self


class AdaCos(nn.Module):
    """-log softmax(s cos t_c)[y] with a scale s that follows the training, and nothing to tune.

    Zhang, Zhao, Qiao, Wang and Li, "AdaCos: adaptively scaling cosine logits for effectively learning deep face
    representations", CVPR 2019: it starts at s = sqrt(2) log(C - 1) (eq. 11), and before every step becomes
    log(B) / cos(min(pi / 4, median of t_y)), B the batch mean of the sum of exp(s cos t_c) over other classes (eq. 15).
    """

    scale: Tensor

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        if classes < 3:
            raise InvalidArgument(
                "class_count", f"must be at least 3 for AdaCos, whose scale is log(count - 1), got {classes}"
            )
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dimension)))
        self.register_buffer("scale", torch.tensor(math.sqrt(2) * math.log(classes - 1)))

    def cosines(self, features: Tensor) -> Tensor:
        """(n, classes) of the angles t_c."""
        return functional.linear(functional.normalize(features), functional.normalize(self.weight))

    def logits(self, features: Tensor) -> Tensor:
        """See `MetricLoss`."""
        return self.scale * self.cosines(features)

    def loss(self, features: Tensor, classes: Tensor) -> Tensor:
        """See `MetricLoss`."""
        cosines = self.cosines(features)
        self._follow(cosines.detach(), classes)
        return functional.cross_entropy(self.scale * cosines, classes)

    def _follow(self, cosines: Tensor, classes: Tensor) -> None:
        own = functional.one_hot(classes, cosines.shape[1]).bool()
        others = torch.where(own, torch.zeros_like(cosines), (self.scale * cosines).exp()).sum(dim=1).mean()
        median = cosines[own].clamp(-1, 1).acos().median()
        self.scale.copy_(others.log() / torch.cos(median.clamp(max=math.pi / 4)))

    def module(self) -> nn.Module:
        """See `MetricLoss`."""
        return self
