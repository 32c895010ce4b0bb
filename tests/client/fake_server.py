"""A server that answers what a test tells it to, and remembers what it was asked."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.longrunning import operations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.codec.v1 import codec_pb2
from mekiki.saliency.v1 import saliency_pb2

SERVICES = {
    "codec": codec_pb2.DESCRIPTOR.services_by_name["CodecService"],
    "saliency": saliency_pb2.DESCRIPTOR.services_by_name["SaliencyService"],
    "boxfit": boxfit_pb2.DESCRIPTOR.services_by_name["BoxfitService"],
    "anomaly": anomaly_pb2.DESCRIPTOR.services_by_name["AnomalyService"],
}
FAST = mekiki.ClientOptions(retry=mekiki.RetryPolicy(initial_s=0.002, longest_s=0.01))


@dataclass
class Asked:
    """A call as it came."""

    rpc: str
    metadata: dict[str, str | bytes]
    remaining_s: float | None
    requests: list[Any] = field(default_factory=list)


class FakeServer:
    """All four services, operations and health; `answers[rpc]` is called with (request, context), else all is empty."""

    def __init__(self, port: int = 0) -> None:
        # A client watches whether its server serves before it sends anything.
        serving = health_pb2.HealthCheckResponse(status="SERVING")
        self.answers: dict[str, Callable[[Any, grpc.ServicerContext], Any]] = {
            "Watch": lambda _request, context: _repeat(serving, context)
        }
        self.asked: list[Asked] = []
        self.server = grpc.server(
            ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        )
        services = [*SERVICES.values(), operations_pb2.DESCRIPTOR.services_by_name["Operations"]]
        services.append(health_pb2.DESCRIPTOR.services_by_name["Health"])
        self.server.add_generic_rpc_handlers([self._handlers(service) for service in services])
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.address = f"127.0.0.1:{self.port}"

    def calls(self, rpc: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.rpc == rpc]

    def _handlers(self, service: ServiceDescriptor) -> grpc.GenericRpcHandler:
        handlers = {method.name: self._handler(method) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _handler(self, method: MethodDescriptor) -> Any:
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        behaviour = self._stream if method.client_streaming else self._unary
        return make(
            lambda request, context: behaviour(method, request, context),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    def _note(self, method: MethodDescriptor, context: grpc.ServicerContext) -> Asked:
        asked = Asked(method.name, dict(context.invocation_metadata()), context.time_remaining())
        self.asked.append(asked)
        context.set_trailing_metadata((("mekiki-version", "9.9.9"),))
        return asked

    def _unary(self, method: MethodDescriptor, request: Any, context: grpc.ServicerContext) -> Any:
        if method.name != "Watch":
            self._note(method, context).requests.append(request)
        answer = self.answers.get(method.name)
        if answer is None:
            return iter(()) if method.server_streaming else GetMessageClass(method.output_type)()
        return answer(request, context)

    def _stream(
        self, method: MethodDescriptor, requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        asked = self._note(method, context)
        response = GetMessageClass(method.output_type)
        for request in requests:
            asked.requests.append(request)
            answer = self.answers.get(method.name)
            result = answer(request, context) if answer else None
            if isinstance(result, status_pb2.Status):
                yield response(id=request.id, error=result)
            else:
                yield response(id=request.id, response=result or response().response)


def _repeat(answer: Any, context: grpc.ServicerContext) -> Iterator[Any]:
    """The answer, and then nothing for as long as somebody listens."""
    ended = threading.Event()
    context.add_callback(ended.set)
    yield answer
    ended.wait()
