"""A tenant sees and touches its own names, and does not learn whether there are others."""

import asyncio
from types import SimpleNamespace

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct

import mekiki
from mekiki.anomaly.v1 import anomaly_pb2, anomaly_pb2_grpc
from mekiki.codec.v1 import codec_pb2
from mekiki.saliency.v1 import saliency_pb2
from services.runtime.caller import ANYBODY, Caller, set_caller
from services.runtime.config import Settings
from services.runtime.errors import Overloaded, PermissionDenied
from services.runtime.gate import Gate
from services.runtime.interceptor import CallInterceptor
from services.runtime.local_runner import LocalRunner
from services.runtime.operations import Operations, OperationsServicer, add_operations_to_server
from services.runtime.roles import Role
from services.runtime.server import Opening, Service
from services.runtime.store import Store
from services.runtime.tenants import NAME_FIELDS, TENANT, find_names, list_visible, owns
from tests.runtime.echoes import DESCRIPTORS, MODULES, OURS, call, open_echoes
from tests.runtime.identities import bearer, write_tokens

TENANT_A = Caller("anna", Role.ADMIN, "plant-a")
TENANT_B = Caller("bert", Role.ADMIN, "plant-b")
OWN, FOREIGN = (
    ("plant-a", "plant-a.screws"),
    ("plant-b", "plant-b.screws", "plant-ab", "plant-a-x", "screws", "Plant-a"),
)

# What a request says in text and is no name of a data set, detector or classifier. A new field belongs either here or,
# with its name, to tenants.NAME_FIELDS. `name` is that of a calibration's classifier, which must be the request's own.
NO_NAMES = {
    "annotation_id", "backbone", "category", "encoding_id", "etag", "group", "id", "item_id", "item_ids", "label",
    "labels", "layer", "name", "normal_labels", "page_token", "paths", "reference_item_id", "reference_splits",
    "sha256", "skip_labels", "source", "split", "splits", "wanted_labels",
}  # fmt: skip


def texts(descriptor, path=()):
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*path, field)
        elif field.message_type is not None:
            yield from texts(field.message_type, (*path, field))


def test_every_text_of_every_request_is_known_to_be_a_name_or_none():
    fields = {path[-1].name for method in OURS for path in texts(method.input_type)}
    assert fields == NAME_FIELDS | NO_NAMES


def fill(method, path, name):
    """A request with one name in it, at the end of the path."""
    message = request = GetMessageClass(method.input_type)()
    for field in path[:-1]:
        message = getattr(message, field.name)
        message = message.add() if field.is_repeated else message
    setattr(message, path[-1].name, name)
    return request


PLACES = [
    pytest.param(method, path, id=f"{method.name}:{'.'.join(field.name for field in path)}")
    for method in OURS
    for path in texts(method.input_type)
    if path[-1].name in NAME_FIELDS
]


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_a_name_is_found_wherever_it_stands(method, path):
    assert list(find_names(fill(method, path, "plant-b.x"))) == ["plant-b.x"]
    assert list(find_names(fill(method, path, ""))) == []


async def test_foreign_names_are_refused_everywhere_and_own_ones_pass(serve, tmp_path):
    asked = []
    tokens = write_tokens(tmp_path / "tokens.json", ("anna", ["admin"], "plant-a"))
    address = await serve(open_echoes(asked), auth_tokens=tokens)
    async with grpc.aio.insecure_channel(address) as channel:
        for method, path in (place.values for place in PLACES):
            for name in OWN:
                assert await outcome(channel, method, fill(method, path, name)) == "OK", (method.name, name)
            passed = len(asked)
            for name in FOREIGN:
                code = await outcome(channel, method, fill(method, path, name))
                assert code == "PERMISSION_DENIED", (method.name, name)
            assert len(asked) == passed


async def outcome(channel, method, request):
    """The code of a call, or of the one frame of a stream."""
    try:
        answers = await call(channel, method, request, bearer("anna"))
    except grpc.aio.AioRpcError as error:
        return error.code().name
    if method.client_streaming and answers[0].WhichOneof("result") == "error":
        return next(code.name for code in grpc.StatusCode if code.value[0] == answers[0].error.code)
    return "OK"


async def test_a_foreign_frame_is_answered_in_its_place_and_the_stream_goes_on(serve, tmp_path):
    asked = []
    tokens = write_tokens(tmp_path / "tokens.json", ("anna", ["line"], "plant-a"))
    address = await serve(open_echoes(asked), auth_tokens=tokens)
    names = ["plant-b", "plant-a", "plant-b", "plant-b", "plant-a", "plant-b"]
    answered = asyncio.Event()

    async def frames():
        for number, name in enumerate(names):
            request = anomaly_pb2.ScoreImageRequest(detector=name)
            yield anomaly_pb2.ScoreImagesRequest(id=str(number), request=request)
        await answered.wait()  # all answers come while the stream is open

    async with grpc.aio.insecure_channel(address) as channel:
        stream = anomaly_pb2_grpc.AnomalyServiceStub(channel).ScoreImages(frames(), metadata=bearer("anna"), timeout=20)
        answers = [await anext(aiter(stream)) for _ in names]
        answered.set()
        assert [answer async for answer in stream] == []
    assert [answer.id for answer in answers] == list("012345")
    assert ["plant-b" if a.WhichOneof("result") == "error" else "plant-a" for a in answers] == names
    assert [frame.request.detector for frame in asked] == ["plant-a", "plant-a"]


@pytest.mark.parametrize("taken", [1, 2])
async def test_a_servicer_that_gives_up_ends_the_stream_for_a_tenant_too(serve, tmp_path, taken):
    class Servicer(anomaly_pb2_grpc.AnomalyServiceServicer):
        async def ScoreImages(self, requests, context):  # noqa: N802
            frames = [await anext(aiter(requests)) for _ in range(taken)]
            yield anomaly_pb2.ScoreImagesResponse(id=frames[0].id)
            raise RuntimeError("swordfish")

    def open_service(_settings):
        return Service("anomaly", DESCRIPTORS["anomaly"], Servicer(), MODULES["anomaly"][1])

    tokens = write_tokens(tmp_path / "tokens.json", ("anna", ["line"], "plant-a"))
    address = await serve([Opening("anomaly", Settings, open_service)], auth_tokens=tokens)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = anomaly_pb2_grpc.AnomalyServiceStub(channel)
        frames = [anomaly_pb2.ScoreImagesRequest(id=str(number)) for number in range(3)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.ScoreImages(iter(frames), metadata=bearer("anna"), timeout=20):
                pass
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "swordfish" not in caught.value.details()


def test_no_tenant_is_part_of_another():
    assert [name for name in (*OWN, *FOREIGN) if owns(TENANT_A, name)] == list(OWN)
    assert all(owns(ANYBODY, name) for name in FOREIGN)
    assert all(owns(TENANT_A, f"{name}@7") for name in OWN)
    assert not any(owns(TENANT_A, f"{name}@7") for name in FOREIGN)
    assert not TENANT.fullmatch("plant.a")
    assert not TENANT.fullmatch("")


async def test_lists_show_own_names_alone_and_no_page_token_tells_of_others():
    """The real servicers' lists; pages of one, so that a foreign name would show as a token."""
    from services.anomaly.servicer import AnomalyServicer
    from services.codec.servicer import CodecServicer
    from services.saliency.desk import ClassifierDesk

    names = sorted([*OWN, *FOREIGN])

    def list_versions(name):
        return [SimpleNamespace(name=name, version=1, serves=True, reference=f"{name}@1")]

    view = SimpleNamespace(names=lambda: names, versions=list_versions, find=lambda name: SimpleNamespace(name=name))

    async def look():
        return view

    async def describe(name):
        return anomaly_pb2.Detector(name=name)

    shelf = SimpleNamespace(look=look)
    anomaly = SimpleNamespace(_shelf=shelf, _describe=describe)
    saliency = SimpleNamespace(_shelf=SimpleNamespace(look=look))
    codec = SimpleNamespace(
        _datasets=SimpleNamespace(list_names=lambda: names), _describe=lambda name: codec_pb2.Dataset(name=name)
    )
    anomaly._describe = lambda entry: describe(entry.name)
    set_caller(TENANT_A)
    pages = [
        await AnomalyServicer.ListDetectors(anomaly, anomaly_pb2.ListDetectorsRequest(page_size=1), None),
        await CodecServicer.ListDatasets(codec, codec_pb2.ListDatasetsRequest(page_size=1), None),
    ]
    assert [page.next_page_token for page in pages] == ["plant-a@1", "plant-a"]
    assert [page.detectors[0].name for page in pages[:1]] == ["plant-a"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.saliency.messages.write_classifier", lambda e: saliency_pb2.Classifier(name=e.name))
        page = await ClassifierDesk.list(saliency, saliency_pb2.ListClassifiersRequest())
    assert [classifier.name for classifier in page.classifiers] == list(OWN)


def test_only_lists_of_visible_names_are_made():
    set_caller(TENANT_A)
    assert list_visible(FOREIGN + OWN) == list(OWN)
    set_caller(ANYBODY)
    assert list_visible(FOREIGN) == list(FOREIGN)


@pytest.fixture
async def operations(tmp_path):
    """Operations whose workers never start, of two tenants and of nobody."""
    settings = Settings(store_url=f"file://{tmp_path / 'store'}")
    store = Store.open(settings.store_url).prefixed("codec")
    operations = Operations("codec", store, LocalRunner(settings), tenant_limit=2)
    made = {}
    for dataset in ("plant-a.x", "plant-b.x"):
        request = codec_pb2.EncodeDatasetRequest(dataset=dataset)
        made[dataset] = (await operations.start("EncodeDataset", request)).name
        await asyncio.sleep(0.002)  # ids are sorted by their millisecond
    made[""] = (await operations.start("Count", Struct())).name
    return operations, made


async def test_operations_of_others_are_neither_listed_nor_touched(operations):
    operations, made = operations
    servicer = OperationsServicer({"codec": operations})
    absent = made["plant-b.x"][:-8] + "00000000"
    set_caller(TENANT_A)
    assert (await operations.get(made["plant-a.x"])).name == made["plant-a.x"]
    refused = set()
    for name in (made["plant-b.x"], made[""], absent):
        for ask in (operations.get, operations.cancel, operations.delete, operations.wait):
            with pytest.raises(PermissionDenied) as caught:
                await ask(name)
            refused.add(caught.value.message)
    assert len(refused) == 1, "the answer tells whether it exists"
    page = await servicer.ListOperations(operations_pb2.ListOperationsRequest(name="codec", page_size=1), None)
    assert [each.name for each in page.operations] == [made["plant-a.x"]]
    assert made["plant-b.x"] not in page.next_page_token


async def test_a_tenant_that_fills_its_part_of_the_queue_is_refused_alone(operations):
    operations, _ = operations
    set_caller(TENANT_A)
    await operations.start("EncodeDataset", codec_pb2.EncodeDatasetRequest(dataset="plant-a.y"))
    with pytest.raises(Overloaded, match="'plant-a' has 2 operations"):
        await operations.start("EncodeDataset", codec_pb2.EncodeDatasetRequest(dataset="plant-a.z"))
    set_caller(TENANT_B)
    await operations.start("EncodeDataset", codec_pb2.EncodeDatasetRequest(dataset="plant-b.y"))
    set_caller(ANYBODY)
    for _ in range(3):
        await operations.start("Count", Struct())


async def test_whoever_has_no_tenant_sees_all_operations_page_by_page(operations):
    operations, made = operations
    seen, token = [], ""
    while True:
        page = await operations.list(2, token)
        seen += [each.name for each in page.operations]
        if not (token := page.next_token):
            break
    assert seen == list(made.values())[::-1]


async def test_a_tenant_learns_over_the_wire_as_little(operations, tmp_path):
    operations, made = operations
    tokens = write_tokens(tmp_path / "tokens.json", ("anna", ["engineer"], "plant-a"))
    server = grpc.aio.server(interceptors=[CallInterceptor("test", Gate(Settings(auth_tokens=tokens)))])
    add_operations_to_server({"codec": operations}, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        request = operations_pb2.GetOperationRequest(name=made["plant-a.x"])
        assert (await stub.GetOperation(request, metadata=bearer("anna"))).name == made["plant-a.x"]
        request.name = made["plant-b.x"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetOperation(request, metadata=bearer("anna"))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await server.stop(0)


async def test_the_callers_token_and_request_id_go_on_to_the_service_next_door(serve, tmp_path):
    """Anomaly asks codec on behalf of its caller; the codec refuses what the caller may not do there."""
    from services.runtime.neighbours import neighbour_options

    tokens = write_tokens(tmp_path / "tokens.json", ("lina", ["line"], "plant-a"), ("eva", ["engineer"], "plant-a"))
    codec = await serve(open_echoes([])[:1], auth_tokens=tokens)

    class Servicer(anomaly_pb2_grpc.AnomalyServiceServicer):
        async def ScoreImage(self, request, context):  # noqa: N802
            async for _ in self.codec.codec.read_items(request.detector):
                pass
            return anomaly_pb2.ScoreImageResponse()

    servicer = Servicer()

    def open_service(settings):
        servicer.codec = mekiki.AsyncClient(settings.codec_address, options=neighbour_options(settings))
        return Service("anomaly", DESCRIPTORS["anomaly"], servicer, MODULES["anomaly"][1], close=servicer.codec.close)

    opening = Opening("anomaly", Settings, open_service)
    address = await serve([opening], auth_tokens=tokens, codec_address=codec)
    outcomes = {}
    for token in ("lina", "eva"):
        options = mekiki.ClientOptions(credentials=mekiki.Credentials(token=token), request_id=lambda: "my-own-id")
        async with mekiki.AsyncClient(address, options=options) as client:
            try:
                await client.anomaly.score_image("plant-a.x", b"png")
                outcomes[token] = "OK"
            except mekiki.MekikiError as error:
                outcomes[token] = f"{type(error).__name__} {error.reason}: {error.message}"
    assert outcomes == {"lina": "PermissionDenied ROLE: ReadItems needs the role engineer", "eva": "OK"}
