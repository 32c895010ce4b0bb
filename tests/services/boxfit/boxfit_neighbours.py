"""Just enough of saliency and codec, in memory: the bright pixels explain an image, and items carry etags."""

from dataclasses import dataclass, field

import numpy as np

from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from mekiki.saliency.v1 import saliency_pb2, saliency_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.runtime.config import Settings
from services.runtime.errors import Conflict, DataLoss, InvalidArgument, NotFound
from services.runtime.images import decode_image, encode_heatmap, encode_mask, encode_tensor
from services.runtime.server import Opening, Service
from services.runtime.status import to_status

DATASET = "parts"
CLASSIFIER, SEGMENTER = "kinds", "outlines"
PROBABILITY = 0.9
CELL = 4  # pixels of an image per cell of its heat map


def draw(x_min, y_min, x_max, y_max, width=64, height=48):
    pixels = np.zeros((height, width), np.uint8)
    pixels[y_min:y_max, x_min:x_max] = 255
    return pixels


@dataclass
class FakeSaliency(saliency_pb2_grpc.SaliencyServiceServicer):
    explained: list[str] = field(default_factory=list)
    wanted: tuple | None = None  # flip and scales
    version: int = 3

    async def GetClassifier(self, request, context):  # noqa: N802
        self.check(request.classifier)
        return saliency_pb2.GetClassifierResponse(
            classifier=saliency_pb2.Classifier(name=CLASSIFIER, version=self.version, labels=["nut", "bolt"])
        )

    async def ExplainImage(self, request, context):  # noqa: N802
        self.check(request.classifier)
        if request.label not in ("", "nut", "bolt"):
            raise InvalidArgument("label", f"must be one of nut, bolt, is {request.label!r}")
        pixels = decode_image(request.image, 1 << 20)
        height, width = pixels.shape
        heat = pixels.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3), dtype=np.float32) / 255
        self.explained.append(request.label)
        assert request.with_views
        assert self.wanted is None or (request.flip, tuple(request.scales)) == self.wanted
        return saliency_pb2.ExplainImageResponse(
            heatmap=encode_heatmap(heat),
            label=request.label or "nut",
            score=PROBABILITY,
            model=types_pb2.ModelRef(name=CLASSIFIER, version=self.version),
            method=saliency_pb2.EXPLAIN_METHOD_CAM,
            image_width=width,
            image_height=height,
            views=[encode_heatmap(heat), encode_heatmap(heat)],
        )

    async def GetSegmenter(self, request, context):  # noqa: N802
        if request.segmenter != SEGMENTER:
            raise NotFound("segmenter", request.segmenter)
        return saliency_pb2.GetSegmenterResponse(
            segmenter=saliency_pb2.Segmenter(name=SEGMENTER, version=self.version, labels=["nut", "bolt"])
        )

    async def SegmentImage(self, request, context):  # noqa: N802
        """What is bright is a nut, what is half as bright a bolt."""
        pixels = decode_image(request.image, 1 << 20)
        height, width = pixels.shape
        found = []
        for label, mask in (("nut", pixels > 200), ("bolt", (pixels > 100) & (pixels <= 200))):
            if mask.any():
                segment = {"label": label, "area_px": int(mask.sum()), "score": PROBABILITY}
                found.append(saliency_pb2.Segment(mask=encode_mask(mask), **segment))
        return saliency_pb2.SegmentImageResponse(
            segments=found,
            model=types_pb2.ModelRef(name=SEGMENTER, version=self.version),
            image_width=width,
            image_height=height,
        )

    def check(self, name):
        if name != CLASSIFIER:
            raise NotFound("classifier", name)


@dataclass
class FakeCodec(codec_pb2_grpc.CodecServiceServicer):
    """Items by identifier, with their pixels; None where they are damaged. `before_update` may meddle."""

    items: dict[str, codec_pb2.Item] = field(default_factory=dict)
    pixels: dict[str, np.ndarray | None] = field(default_factory=dict)
    before_update: object = None
    updates: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)

    def add(self, item_id, pixels, *labels, annotations=()):
        self.items[item_id] = codec_pb2.Item(item_id=item_id, labels=labels, annotations=annotations, etag="1")
        self.pixels[item_id] = pixels

    async def ReadItems(self, request, context):  # noqa: N802
        if request.items.dataset != DATASET:
            raise NotFound("data set", request.items.dataset)
        if request.items.form == types_pb2.ITEM_FORM_PREPARED:
            raise InvalidArgument("items.form", "there is no encoding")
        for item_id in sorted(self.items):
            if not request.items.item_ids or item_id in request.items.item_ids:
                yield self.answer(item_id, request.metadata_only)

    def answer(self, item_id, metadata_only):
        item, pixels = self.items[item_id], self.pixels[item_id]
        if metadata_only:
            return codec_pb2.ReadItemsResponse(item=item)
        self.reads.append(item_id)
        if pixels is None:
            return codec_pb2.ReadItemsResponse(item=item, error=to_status(DataLoss("the segment is torn")))
        return codec_pb2.ReadItemsResponse(item=item, image=encode_tensor(pixels))

    async def GetItem(self, request, context):  # noqa: N802
        return codec_pb2.GetItemResponse(item=self.items[request.item_id])

    async def UpdateItem(self, request, context):  # noqa: N802
        item = self.items[request.item.item_id]
        if self.before_update is not None:
            self.before_update(item)
        if request.item.etag != item.etag:
            raise Conflict(f"item {item.item_id} has changed")
        assert list(request.update_mask.paths) == ["annotations"]
        del item.annotations[:]
        item.annotations.extend(request.item.annotations)
        touch(item)
        self.updates.append(item.item_id)
        return codec_pb2.UpdateItemResponse(item=item)


def touch(item):
    """Changes an item's etag, as any edit does."""
    item.etag = str(int(item.etag) + 1)


def open_saliency(servicer):
    service = Service(
        name="saliency",
        descriptor=saliency_pb2.DESCRIPTOR.services_by_name["SaliencyService"],
        servicer=servicer,
        add_to_server=saliency_pb2_grpc.add_SaliencyServiceServicer_to_server,
    )
    return Opening("saliency", Settings, lambda _: service)


def open_codec(servicer):
    service = Service(
        name="codec",
        descriptor=codec_pb2.DESCRIPTOR.services_by_name["CodecService"],
        servicer=servicer,
        add_to_server=codec_pb2_grpc.add_CodecServiceServicer_to_server,
    )
    return Opening("codec", Settings, lambda _: service)
