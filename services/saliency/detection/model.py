"""A trained object detector: what is in an image, and where. Frozen once constructed, safe for any threads."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import nms

from services.runtime.errors import DataLoss
from services.saliency import bundle
from services.saliency.detection.average_precision import Found
from services.saliency.detection.letterbox import Letter, fit_into_square, map_back
from services.saliency.detection.network import DetectionNetwork, build_detection_network, fold_trunk
from services.saliency.detection.objects import DetectedObject, Wanted
from services.saliency.pictures import Pixels

CUDA_BATCH = 8  # pictures a forward pass, always; short batches are filled up
SAME_PLACE_IOU = 0.75  # from here on two boxes of different labels are two names for one object: the surer one stays
_FORMAT = 1  # of the saved form; a reader refuses what it does not know


class ObjectDetector:
    """A network with names for what it finds.

    image → fit into the network's square → network → boxes, labels, scores → back to the image's pixels
    """

    def __init__(self, network: DetectionNetwork, labels: tuple[str, ...], device: torch.device) -> None:
        self.labels = labels
        self.network = network
        network.module.to(device).eval()
        for parameter in network.module.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        self._answering = replace(network, module=fold_trunk(network.module, network.network))

    def save(self) -> bytes:
        """Write all tensors and what is needed to rebuild the network. The same detector gives the same bytes."""
        about = {
            "format": _FORMAT,
            "backbone": self.network.backbone,
            "input_size": self.network.input_size,
            "labels": list(self.labels),
        }
        return bundle.pack(dict(self.network.module.state_dict()), about)

    @classmethod
    def load(cls, data: bytes, device: torch.device) -> "ObjectDetector":
        """Read what `save` wrote; it answers as the saved one, to the bit. Raises DataLoss for damaged bytes."""
        tensors, about = bundle.unpack(data)
        if about.get("format") != _FORMAT:
            raise DataLoss(f"an object detector of format {about.get('format')!r}; this version reads format {_FORMAT}")
        labels = tuple(about["labels"])
        network = build_detection_network(about["backbone"], len(labels), input_size=about["input_size"])
        try:
            network.module.load_state_dict(tensors)
        except RuntimeError as error:
            raise DataLoss(f"the saved tensors are not those of {about['backbone']!r}: {error}") from error
        return cls(network, labels, device)

    def detect(self, images: Sequence[npt.NDArray[np.generic]], wanted: Wanted) -> list[list[DetectedObject]]:
        """Find objects in each image ((h, w) or (h, w, 1|3|4), uint8 or uint16), surest first, whatever their sizes.

        Raises InvalidArgument for an image of another type or shape.
        """
        letters = [fit_into_square(image, self.network.input_size) for image in images]
        found = detect_in_pictures(self._answering, [letter.pixels for letter in letters])
        asked = zip(images, letters, found, strict=True)
        return [self._tell(image.shape, letter, here, wanted) for image, letter, here in asked]

    def _tell(self, shape: tuple[int, ...], letter: Letter, found: Found, wanted: Wanted) -> list[DetectedObject]:
        chosen = np.flatnonzero(found.scores >= wanted.min_score)[: wanted.max_objects]
        boxes = map_back(found.boxes[chosen], letter.scale, shape[1], shape[0])
        told = zip(boxes.tolist(), found.classes[chosen], found.scores[chosen], strict=True)
        return [
            DetectedObject((left, top, right, bottom), self.labels[number], float(score))
            for (left, top, right, bottom), number, score in told
        ]


def detect_in_pictures(network: DetectionNetwork, pictures: Sequence[Pixels]) -> list[Found]:
    """Detect in pictures (s, s, 3) that are in their squares already; boxes are in the squares' pixels, surest first.

    The network runs at one batch shape, filled up with black, so that what shares a batch never changes a result.
    """
    device = network.device
    size = 1 if device.type == "cpu" else CUDA_BATCH
    found: list[Found] = []
    with torch.no_grad():
        for start in range(0, len(pictures), size):
            part = pictures[start : start + size]
            filled = [*part, *[np.zeros_like(part[0])] * (size - len(part))]
            answers = network.detect(to_tensor(filled, device))
            found += [_convert(answer) for answer in answers[: len(part)]]
    return found


def to_tensor(pictures: Sequence[Pixels], device: torch.device) -> torch.Tensor:
    """Pictures (s, s, 3) uint8 as the network's input, (n, 3, s, s) float32 in [0, 1], channels last in memory."""
    planes = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
    return planes.float().div(255).contiguous(memory_format=torch.channels_last)


def _convert(answer: dict[str, torch.Tensor]) -> Found:
    kept = nms(answer["boxes"], answer["scores"], SAME_PLACE_IOU)  # surest first
    boxes, labels, scores = (answer[name][kept].cpu().numpy() for name in ("boxes", "labels", "scores"))
    return Found(boxes.astype(np.float32), labels.astype(np.int64), scores.astype(np.float32))
