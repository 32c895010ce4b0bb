"""A trained segmenter: which pixels of an image show what. Frozen once constructed, safe for any threads."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from services.runtime.errors import DataLoss
from services.saliency import bundle
from services.saliency.detection.network import fold_trunk
from services.saliency.explain import run_in_fixed_batches
from services.saliency.pictures import prepare
from services.saliency.segmentation.dense_crf import apply_crf
from services.saliency.segmentation.drawing import Image, Segmentation, draw, refine_scores
from services.saliency.segmentation.network import SegmentationNetwork, build_segmentation_network

_FORMAT = 1  # of the saved form; a reader refuses what it does not know


class Segmenter:
    """A network with names for its classes.

    image → squeeze to the network's square → network → probabilities on its grid → (dense CRF) → the image's pixels
    """

    def __init__(self, network: SegmentationNetwork, labels: tuple[str, ...], device: torch.device) -> None:
        self.labels = labels
        self.network = network
        network.module.to(device).eval()
        for parameter in network.module.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        self._answering = fold_trunk(network.module, network.network)

    @property
    def input_size(self) -> int:
        """Side of the square that an image is squeezed to, pixels."""
        return self.network.network.input_format.size

    def save(self) -> bytes:
        """Write all tensors and what is needed to rebuild the network. The same segmenter gives the same bytes."""
        about = {
            "format": _FORMAT,
            "backbone": self.network.network.backbone,
            "input_size": self.input_size,
            "stride": self.network.stride,
            "local": self.network.local,
            "labels": list(self.labels),
        }
        return bundle.pack(dict(self.network.module.state_dict()), about)

    @classmethod
    def load(cls, data: bytes, device: torch.device) -> "Segmenter":
        """Read what `save` wrote; it answers as the saved one, to the bit. Raises DataLoss for damaged bytes."""
        tensors, about = bundle.unpack(data)
        if about.get("format") != _FORMAT:
            raise DataLoss(f"a segmenter of format {about.get('format')!r}; this version reads format {_FORMAT}")
        labels = tuple(about["labels"])
        network = build_segmentation_network(
            about["backbone"],
            len(labels),
            input_size=about["input_size"],
            stride=about["stride"],
            local=about.get("local", False),
        )
        try:
            network.module.load_state_dict(tensors)
        except RuntimeError as error:
            raise DataLoss(f"the saved tensors are not those of {about['backbone']!r}: {error}") from error
        return cls(network, labels, device)

    def score(self, images: Sequence[Image]) -> npt.NDArray[np.float32]:
        """Give the probabilities of the background and of each label at every position, (n, k + 1, h, w).

        Images are (h, w) or (h, w, 1|3|4), uint8 or uint16, of whatever sizes; what shares a call changes nothing.
        Raises InvalidArgument for an image of another type or shape.
        """
        inputs = self.network.feed(np.stack([prepare(image, self.input_size) for image in images]))

        def forward(part: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                logits: torch.Tensor = self._answering(part)
                return logits.softmax(1)

        scores: npt.NDArray[np.float32] = run_in_fixed_batches(forward, inputs).cpu().numpy()
        return scores

    def segment(self, image: Image, *, refine: bool = False) -> Segmentation:
        """Say what each pixel of an image shows; `refine` brings outlines to the image's edges, which takes seconds.

        Raises InvalidArgument as `score` does.
        """
        (scores,) = self.score([image])
        return draw(refine_scores(scores, image, apply_crf) if refine else scores, image.shape)
