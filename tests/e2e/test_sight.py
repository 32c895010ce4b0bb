"""What an operator sees of the four services at work: traces, the log joined by them, and figures by model."""

import json
import time
import urllib.request

import numpy as np
import pytest

import mekiki
from tests.collector import collecting
from tests.running import running_services

ANNOTATE = "mekiki.boxfit.v1.BoxfitService/AnnotateImage"
EXPLAIN = "mekiki.saliency.v1.SaliencyService/ExplainImage"
READ = "mekiki.codec.v1.CodecService/ReadItems"
pytestmark = pytest.mark.xdist_group("sight")


@pytest.fixture(scope="module")
def collector():
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def house(tmp_path_factory, collector):
    folder = tmp_path_factory.mktemp("house")
    environment = {
        "MEKIKI_TRACES_ENDPOINT": collector.endpoint,
        "MEKIKI_LOG_LEVEL": "debug",
        "MEKIKI_DEVICE": "cpu",
        "MEKIKI_WEIGHTS_HUB": "false",
    }
    with running_services(folder, environment) as running:
        yield running, folder / "services.log"


def draw(number):
    image = np.full((32, 32), 20, np.uint8)
    image[8 + number % 4 : 20, 8:24] = (90, 220)[number % 2]
    return image


@pytest.fixture(scope="module")
def client(house):
    with mekiki.Client(house[0].address) as made:
        made.codec.create_dataset("parts")
        items = [
            mekiki.NewItem(str(number), draw(number), labels=[("dark", "bright")[number % 2]]) for number in range(12)
        ]
        assert all(answer.error is None for answer in made.codec.append_items("parts", items))
        yield made


@pytest.fixture(scope="module")
def classifier(house, client):
    with Traced(house[0].address, 3) as traced:
        operation = traced.client.saliency.train_classifier("kinds", "parts", backbone="small", epochs=1)
        return operation.result(300).name


class Traced:
    """A client whose calls begin a trace of a number of their own."""

    def __init__(self, address, number):
        self.trace_id = f"{number:032x}"
        header = ("traceparent", f"00-{self.trace_id}-00000000000000aa-01")
        self.client = mekiki.Client(address, options=mekiki.ClientOptions(metadata=(header,)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()


def tell_chain(spans, span):
    """A span and all above it, by name, from the top."""
    by_id = {one.span_id: one for one in spans}
    names = []
    while span is not None:
        names.insert(0, span.name)
        span = by_id.get(span.parent_id)
    return names


def wait_for_chains(collector, trace_id, *wanted, timeout_s=30):
    """The spans of a trace, as soon as there are those chains among them: each exporter sends in its own time."""
    end_s = time.monotonic() + timeout_s
    while True:
        spans = [span for span in collector.spans() if span.trace_id == trace_id]
        found = [tell_chain(spans, span) for span in spans]
        if all(chain in found for chain in wanted):
            return spans
        assert time.monotonic() < end_s, found
        time.sleep(0.1)


def test_one_trace_leads_from_an_annotated_item_down_to_the_codec(house, classifier, collector):
    with Traced(house[0].address, 1) as traced:
        traced.client.boxfit.annotate_image(classifier, mekiki.ItemRef("parts", "1"))
    spans = wait_for_chains(
        collector,
        traced.trace_id,
        [ANNOTATE, EXPLAIN, EXPLAIN, READ, READ],
        [ANNOTATE, EXPLAIN, EXPLAIN, "wait saliency.explain"],
        [ANNOTATE, EXPLAIN, EXPLAIN, "compute saliency.explain"],
    )
    answered = {span.name: span for span in spans if "mekiki.request_id" in span.attributes}
    assert set(answered) == {ANNOTATE, EXPLAIN, READ}
    assert answered[ANNOTATE].parent_id == "00000000000000aa"
    assert len({span.attributes["mekiki.request_id"] for span in answered.values()}) == 1
    assert not any(span.failed for span in spans)


def test_lines_of_two_services_are_joined_by_the_trace_id(house, classifier):
    running, log = house
    with Traced(running.address, 2) as traced:
        traced.client.boxfit.annotate_image(classifier, mekiki.ItemRef("parts", "1"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    joined = [line for line in lines if line.get("trace_id") == traced.trace_id]
    assert {f"/{name}" for name in (ANNOTATE, EXPLAIN, READ)} <= {line["rpc"] for line in joined}
    assert len({line["request_id"] for line in joined}) == 1


def test_a_trace_goes_from_the_start_of_a_training_into_its_job_and_on_to_what_it_reads(classifier, collector):
    start, verb = "mekiki.saliency.v1.SaliencyService/TrainClassifier", "TrainClassifier"
    spans = wait_for_chains(collector, f"{3:032x}", [start, verb, READ, READ])
    (job,) = [span for span in spans if span.name == verb]
    assert job.service == "saliency-job"
    assert job.attributes["mekiki.operation"].startswith("saliency/operations/")


def test_a_trace_goes_through_the_annotating_of_a_data_set_though_it_works_in_many_threads(
    house, classifier, collector
):
    with Traced(house[0].address, 4) as traced:
        traced.client.boxfit.annotate_dataset(classifier, "parts").result(300)
    start, verb = "mekiki.boxfit.v1.BoxfitService/AnnotateDataset", "AnnotateDataset"
    wait_for_chains(
        collector,
        traced.trace_id,
        [start, verb, READ, READ],
        [start, verb, EXPLAIN, EXPLAIN, "compute saliency.explain"],
    )


def read_figures(log):
    """The metrics page, as {"name{labels}": value}."""
    (port,) = [json.loads(line)["metrics_port"] for line in log.read_text().splitlines() if '"serving"' in line]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def count(figures, name, **labels):
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(value for key, value in figures.items() if key.startswith(name + "{") and all(w in key for w in wanted))


@pytest.fixture(scope="module")
def detector(client):
    client.anomaly.train_detector("screws", "parts", backbone="small").result(300)
    client.anomaly.enroll_items("screws", [mekiki.EnrolledItem(str(number), draw(number)) for number in range(10)])
    client.anomaly.calibrate_detector("screws", "parts", false_alarm_rate=0.4, confidence=0.9).result(300)
    return "screws"


def test_calls_and_frames_are_counted_by_model_and_what_does_not_exist_is_not(house, client, detector):
    log = house[1]
    before = read_figures(log)
    client.anomaly.score_image(detector, draw(1))
    list(client.anomaly.score_images(detector, [draw(1), b"garbage", draw(2)]))
    for number in range(5):
        with pytest.raises(mekiki.errors.NotFound):
            client.anomaly.score_image(f"no-such-{number}", draw(1))
    after = read_figures(log)
    service = "/mekiki.anomaly.v1.AnomalyService"

    def added(name, **labels):
        return count(after, name, **labels) - count(before, name, **labels)

    assert added("mekiki_model_calls_total", rpc=f"{service}/ScoreImage", model=detector, code="OK") == 1
    assert added("mekiki_model_calls_total", rpc=f"{service}/ScoreImages", model=detector, code="OK") == 2
    assert added("mekiki_model_calls_total", model=detector, code="INVALID_ARGUMENT") == 1
    assert added("mekiki_model_seconds_count", kind="detector", model=detector) == 4
    assert added("mekiki_verdicts_total", detector=detector) == 3
    assert count(after, "mekiki_verdicts_total", detector=detector, verdict="none") == 0
    assert not any("no-such" in key for key in after)


def test_the_bank_is_shown_as_it_serves_and_a_deleted_detector_leaves_nothing(house, client, detector):
    log = house[1]
    described = client.anomaly.get_detector(detector)
    client.anomaly.score_image(detector, draw(1))
    figures = read_figures(log)
    assert figures['mekiki_bank_items{detector="screws"}'] == described.enrolled_count == 10
    assert figures['mekiki_bank_version{detector="screws"}'] == described.bank_version
    assert figures['mekiki_detector_version{detector="screws"}'] == described.version
    client.anomaly.forget_items(detector, ["1"])
    time.sleep(1)  # a replica follows a bank within half a second
    client.anomaly.score_image(detector, draw(1))
    assert read_figures(log)['mekiki_bank_items{detector="screws"}'] == 9
    client.anomaly.delete_detector(detector)
    assert not any('"screws"' in key for key in read_figures(log))
