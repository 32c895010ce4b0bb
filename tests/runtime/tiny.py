"""A tiny service behind the boxfit contract: the box is the whole map, and `seed` says how it behaves.

seed 0: at once. seed 13: breaks. Anything else: computes for that many milliseconds a batch.
"""

import time

from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from mekiki.types.v1 import types_pb2
from services.runtime.batcher import Batcher
from services.runtime.config import Settings
from services.runtime.errors import InvalidArgument
from services.runtime.images import decode_heatmap
from services.runtime.server import Opening, Service, run
from services.runtime.streams import answer_frames


def compute(values):
    slowest = max(seed for _, seed in values)
    if slowest == 13:
        raise RuntimeError("the password is swordfish")
    time.sleep(slowest / 1000)
    return [heat.shape for heat, _ in values]


class TinyServicer(boxfit_pb2_grpc.BoxfitServiceServicer):
    def __init__(self, settings):
        self.settings = settings
        self.batcher = Batcher(
            "tiny", compute, max_batch=settings.max_batch, max_wait_s=0.001, queue_limit=settings.queue_limit
        )

    async def FitBox(self, request, context):  # noqa: N802
        return await self.fit(request)

    async def FitBoxes(self, request_iterator, context):  # noqa: N802
        async for answer in answer_frames(request_iterator, self.fit, boxfit_pb2.FitBoxesResponse, 4):
            yield answer

    async def fit(self, request):
        if request.WhichOneof("map") != "heatmap":
            raise InvalidArgument("map", "must be heatmap")
        heat = decode_heatmap(request.heatmap, self.settings.max_pixels)
        height, width = await self.batcher.submit((heat, request.options.seed))
        return boxfit_pb2.FitBoxResponse(box=types_pb2.Box(x_max=width, y_max=height))


def open_service(settings):
    servicer = TinyServicer(settings)
    return Service(
        name="boxfit",
        descriptor=boxfit_pb2.DESCRIPTOR.services_by_name["BoxfitService"],
        servicer=servicer,
        add_to_server=boxfit_pb2_grpc.add_BoxfitServiceServicer_to_server,
        close=servicer.batcher.close,
    )


OPENING = Opening("boxfit", Settings, open_service)

if __name__ == "__main__":
    run([OPENING])
