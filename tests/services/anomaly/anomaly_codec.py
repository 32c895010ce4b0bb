"""Just enough of codec: items in memory, one encoding, images prepared by a known map."""

from dataclasses import dataclass

import cv2
import numpy as np
from anomaly_parts import PART_MASK, SIDE

from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.runtime.config import Settings
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from services.runtime.images import decode_image, encode_mask, encode_tensor
from services.runtime.server import Opening, Service
from services.runtime.status import to_status
from services.runtime.streams import answer_frames

DATASET, ENCODING = "parts", "prepared-1"
# The image as sent is twice as large as the frame, and shifted: frame = sent / 2 - (10, 4).
AFFINE = np.array([[0.5, 0, -10], [0, 0.5, -4]])
SENT_SHAPE = (220, 240)
CLEAR_CRF = 33


def send(frame):
    """The image as a camera sends it, from the frame that preparation will make of it."""
    return cv2.warpAffine(frame, AFFINE, SENT_SHAPE[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def prepare(sent):
    frame = cv2.warpAffine(sent, AFFINE, (SIDE, SIDE))
    frame[~PART_MASK] = 0
    return frame


@dataclass(frozen=True)
class FakeItem:
    item_id: str
    pixels: np.ndarray
    label: str = "good"
    split: str = "train"
    group: str = ""
    mask: np.ndarray | None = None


class FakeCodec(codec_pb2_grpc.CodecServiceServicer):
    def __init__(self, items):
        self.items = {item.item_id: item for item in items}

    async def GetDataset(self, request, context):  # noqa: N802
        self.check(request.dataset)
        category = codec_pb2.EncodedCategory(width=SIDE, height=SIDE, mask=encode_mask(PART_MASK))
        encoding = codec_pb2.Encoding(encoding_id=ENCODING, categories=[category])
        return codec_pb2.GetDatasetResponse(dataset=codec_pb2.Dataset(name=DATASET, encodings=[encoding]))

    async def ReadItems(self, request, context):  # noqa: N802
        self.check(request.items.dataset)
        for item in self.select(request.items):
            described = codec_pb2.Item(
                item_id=item.item_id,
                labels=[item.label],
                split=item.split,
                group=item.group,
                has_mask=item.mask is not None,
            )
            if request.metadata_only:
                mask = encode_mask(item.mask) if request.with_masks and item.mask is not None else None
                yield codec_pb2.ReadItemsResponse(item=described, mask=mask)
            elif request.items.form == types_pb2.ITEM_FORM_PREPARED and item.item_id.startswith("late"):
                lacking = FailedPrecondition("NOT_ENCODED", f"item {item.item_id!r} is not in {ENCODING}")
                yield codec_pb2.ReadItemsResponse(item=described, error=to_status(lacking))
            elif request.items.form == types_pb2.ITEM_FORM_PREPARED:
                image, alignment = encode_tensor(prepare(item.pixels)), describe(aligned=True)
                yield codec_pb2.ReadItemsResponse(item=described, image=image, alignment=alignment)
            else:
                yield codec_pb2.ReadItemsResponse(item=described, image=encode_tensor(item.pixels))

    async def PreviewEncoding(self, request, context):  # noqa: N802
        """Keeps everything up to CLEAR_CRF; above, what a block of pixels has in common."""
        self.check(request.dataset)
        for item_id in request.item_ids:
            if item_id.startswith("late"):
                raise NotFound("item", item_id)
            frame = prepare(self.items[item_id].pixels)
            if request.crf > CLEAR_CRF:
                blocks = cv2.resize(frame, (SIDE // 16, SIDE // 16), interpolation=cv2.INTER_AREA)
                frame = cv2.resize(blocks, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
            image, size = encode_tensor(frame), 1000 - 10 * request.crf
            yield codec_pb2.PreviewEncodingResponse(item_id=item_id, image=image, frame_bytes=size)

    async def PrepareImage(self, request, context):  # noqa: N802
        return self.prepare(request)

    async def PrepareImages(self, request_iterator, context):  # noqa: N802
        async def answer(request):
            return self.prepare(request)

        async for response in answer_frames(request_iterator, answer, codec_pb2.PrepareImagesResponse, 4):
            yield response

    def prepare(self, request):
        self.check(request.dataset)
        if request.encoding_id != ENCODING:
            raise NotFound("encoding", request.encoding_id)
        if request.image.WhichOneof("source") == "item":
            sent = self.items[request.image.item.item_id].pixels
        else:
            sent = decode_image(request.image, 1_000_000)
        if sent.shape != SENT_SHAPE:
            raise InvalidArgument("image", f"this codec knows only {SENT_SHAPE}, got {sent.shape}")
        return codec_pb2.PrepareImageResponse(
            image=encode_tensor(prepare(sent)),
            alignment=describe(aligned=bool(sent.max() > 0)),
            encoding_id=ENCODING,
            image_width=sent.shape[1],
            image_height=sent.shape[0],
        )

    def select(self, wanted):
        for item_id in sorted(self.items):
            item = self.items[item_id]
            asked = (not wanted.item_ids or item_id in wanted.item_ids) and (
                not wanted.splits or item.split in wanted.splits
            )
            if asked and (not wanted.labels or item.label in wanted.labels):
                yield item

    def check(self, dataset):
        if dataset != DATASET:
            raise NotFound("data set", dataset)


def describe(*, aligned):
    names = ("xx", "xy", "tx", "yx", "yy", "ty")
    affine = types_pb2.Affine(**dict(zip(names, AFFINE.ravel().tolist(), strict=True)))
    return codec_pb2.Alignment(affine=affine, aligned=aligned, score=0.9, reason="" if aligned else "nothing to see")


def open_codec(items):
    """An opening of a codec that holds these items."""

    def open_service(_):
        return Service(
            name="codec",
            descriptor=codec_pb2.DESCRIPTOR.services_by_name["CodecService"],
            servicer=FakeCodec(items),
            add_to_server=codec_pb2_grpc.add_CodecServiceServicer_to_server,
        )

    return Opening("codec", Settings, open_service)
