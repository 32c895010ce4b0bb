"""All four services without a model: every RPC answers at once and with nothing, and remembers what it was asked."""

import grpc
from google.longrunning import operations_pb2
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from mekiki.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc
from mekiki.boxfit.v1 import boxfit_pb2, boxfit_pb2_grpc
from mekiki.codec.v1 import codec_pb2, codec_pb2_grpc
from mekiki.saliency.v1 import saliency_pb2, saliency_pb2_grpc
from services.runtime.config import Settings
from services.runtime.server import Opening, Service

MODULES = {
    "codec": (codec_pb2, codec_pb2_grpc.add_CodecServiceServicer_to_server),
    "saliency": (saliency_pb2, saliency_pb2_grpc.add_SaliencyServiceServicer_to_server),
    "boxfit": (boxfit_pb2, boxfit_pb2_grpc.add_BoxfitServiceServicer_to_server),
    "anomaly": (anomaly_pb2, anomaly_pb2_grpc.add_AnomalyServiceServicer_to_server),
}
DESCRIPTORS = {
    name: module.DESCRIPTOR.services_by_name[f"{name.title()}Service"] for name, (module, _) in MODULES.items()
}
OTHERS = [
    operations_pb2.DESCRIPTOR.services_by_name["Operations"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
]
OURS = [method for descriptor in DESCRIPTORS.values() for method in descriptor.methods]
METHODS = [*OURS, *(method for descriptor in OTHERS for method in descriptor.methods)]


def path_of(method):
    return f"/{method.containing_service.full_name}/{method.name}"


def make_answer(method, asked):
    response = GetMessageClass(method.output_type)

    async def unary(_self, request, _context):
        asked.append(request)
        return response()

    async def stream(_self, request, _context):
        asked.append(request)
        yield response()

    async def frames(_self, requests, _context):
        async for frame in requests:
            asked.append(frame)
            answer = response(id=frame.id)
            answer.response.SetInParent()
            yield answer

    return frames if method.client_streaming else stream if method.server_streaming else unary


def open_echoes(asked):
    """Openings of all four; what they are asked goes into the list."""

    def opening(name):
        answers = {method.name: make_answer(method, asked) for method in DESCRIPTORS[name].methods}

        def open_service(_settings):
            return Service(name, DESCRIPTORS[name], type(name, (), answers)(), MODULES[name][1])

        return Opening(name, Settings, open_service)

    return [opening(name) for name in MODULES]


async def call(channel, method, request=None, metadata=()):
    """Calls an RPC with one message; returns all answers.

    A refusal that comes while a frame is on its way is hidden by gRPC: then the call is made again, as the SDK does.
    """
    while True:
        try:
            return await call_once(channel, method, request, metadata)
        except grpc.aio.AioRpcError as error:
            if error.details() != "Internal error from Core":
                raise


async def call_once(channel, method, request, metadata):
    multi = channel.stream_stream if method.client_streaming else channel.unary_stream
    request_class, response_class = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    stub = multi(
        path_of(method),
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    message = request_class() if request is None else request
    stream = stub(iter([message]) if method.client_streaming else message, timeout=20, metadata=metadata)
    if method.name == "Watch":
        return [await anext(aiter(stream))]
    return [answer async for answer in stream]
