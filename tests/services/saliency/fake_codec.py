"""Just enough of codec: items in memory, read as the contract says."""

from dataclasses import dataclass

import numpy as np

from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from services.runtime.config import Settings
from services.runtime.errors import DataLoss, NotFound
from services.runtime.images import encode_mask, encode_tensor, encode_trimap
from services.runtime.server import Opening, Service
from services.runtime.status import to_status

DATASET = "spots"


@dataclass(frozen=True)
class FakeItem:
    item_id: str
    pixels: np.ndarray | None  # None: damaged
    label: str = ""
    group: str = ""
    annotations: tuple = ()
    labels: tuple = ()  # instead of the one
    mask: np.ndarray | None = None
    trimap: np.ndarray | None = None


class FakeCodec(codec_pb2_grpc.CodecServiceServicer):
    def __init__(self, items):
        self.items = items
        self.encodings = []
        self.asked = []

    async def GetDataset(self, request, context):  # noqa: N802
        encodings = [codec_pb2.Encoding(encoding_id=name) for name in self.encodings]
        return codec_pb2.GetDatasetResponse(dataset=codec_pb2.Dataset(name=request.dataset, encodings=encodings))

    async def ReadItems(self, request, context):  # noqa: N802
        if request.items.dataset != DATASET:
            raise NotFound("data set", request.items.dataset)
        self.asked.append(request.items.encoding_id)
        for item in self.items:
            if not request.items.item_ids or item.item_id in request.items.item_ids:
                answer = self.answer(item, request.metadata_only)
                if request.with_masks and item.mask is not None:
                    answer.mask.CopyFrom(encode_mask(item.mask))
                if request.with_masks and item.trimap is not None:
                    answer.trimap.CopyFrom(encode_trimap(item.trimap))
                yield answer

    def answer(self, item, metadata_only):
        labels = item.labels or ([item.label] if item.label else [])
        described = codec_pb2.Item(item_id=item.item_id, labels=labels, group=item.group)
        described.annotations.extend(mark.to_proto() for mark in item.annotations)
        if metadata_only:
            return codec_pb2.ReadItemsResponse(item=described)
        if item.pixels is None:
            return codec_pb2.ReadItemsResponse(item=described, error=to_status(DataLoss("the segment is torn")))
        return codec_pb2.ReadItemsResponse(item=described, image=encode_tensor(item.pixels))


def open_codec(items, servicer=None):
    """An opening of a codec that holds these items, or answers as this servicer does."""

    def open_service(_):
        return Service(
            name="codec",
            descriptor=codec_pb2.DESCRIPTOR.services_by_name["CodecService"],
            servicer=servicer or FakeCodec(items),
            add_to_server=codec_pb2_grpc.add_CodecServiceServicer_to_server,
        )

    return Opening("codec", Settings, open_service)
