from types import SimpleNamespace

import pytest
import yaml
from kubernetes.client import V1Job
from kubernetes.client.exceptions import ApiException

from services.runtime.cluster_runner import ClusterRunner, name_job
from services.runtime.config import Settings
from services.runtime.errors import Unavailable
from services.runtime.local_runner import LocalRunner
from services.runtime.operations import open_runner
from services.runtime.runners import Life, Task

TASK = Task("codec", "20261121T075008123-3f9a2c1b", 2)
TEMPLATE = yaml.safe_load("""
apiVersion: batch/v1
kind: Job
metadata: {namespace: plant, labels: {team: line}}
spec:
  ttlSecondsAfterFinished: 60
  template:
    metadata: {labels: {team: line}}
    spec:
      restartPolicy: Never
      containers:
        - name: job
          image: mekiki-codec:1
          resources: {requests: {cpu: 0.5}, limits: {nvidia.com/gpu: 1, memory: 2Gi}}
""")


def make_condition(kind, reason="", message=""):
    return SimpleNamespace(type=kind, status="True", reason=reason, message=message)


class FakeBatch:
    """The part of BatchV1Api that is used, with names that collide as the API server's do."""

    def __init__(self):
        self.jobs = {}
        self.ended = {}
        self.refusal = None

    def create_namespaced_job(self, namespace, body, _request_timeout):
        self._check(namespace)
        V1Job.model_validate(body)  # as the real client does
        name = body["metadata"]["name"]
        if name in self.jobs:
            raise ApiException(409, "Conflict")
        self.jobs[name] = body

    def read_namespaced_job(self, name, namespace, _request_timeout):
        self._check(namespace)
        if name not in self.jobs:
            raise ApiException(404, "Not Found")
        return self._describe(name)

    def list_namespaced_job(self, namespace, label_selector, _request_timeout):
        self._check(namespace)
        key, value = label_selector.split("=")
        found = [name for name, body in self.jobs.items() if body["metadata"]["labels"][key] == value]
        return SimpleNamespace(items=[self._describe(name) for name in found])

    def delete_namespaced_job(self, name, namespace, propagation_policy, _request_timeout):
        self._check(namespace)
        if self.jobs.pop(name, None) is None:
            raise ApiException(404, "Not Found")

    def _describe(self, name):
        ended = self.ended.get(name)
        spec = SimpleNamespace(parallelism=self.jobs[name]["spec"].get("parallelism"))
        return SimpleNamespace(spec=spec, status=SimpleNamespace(conditions=[ended] if ended else None))

    def _check(self, namespace):
        assert namespace == "plant"
        if self.refusal:
            raise self.refusal


class FakeCore:
    def __init__(self):
        self.pods = []

    def list_namespaced_pod(self, namespace, label_selector, _request_timeout):
        return SimpleNamespace(items=self.pods)

    def read_namespaced_pod_log(self, name, namespace, tail_lines, _request_timeout):
        return "its last words"


@pytest.fixture
def batch():
    return FakeBatch()


@pytest.fixture
def core():
    return FakeCore()


@pytest.fixture
def runner(batch, core):
    return ClusterRunner(TEMPLATE, "plant", 2, batch, core, grace_s=0)


def make_pod(reason=None, message=None, terminated=None):
    states = [SimpleNamespace(state=SimpleNamespace(terminated=terminated))] if terminated else None
    status = SimpleNamespace(reason=reason, message=message, container_statuses=states)
    return SimpleNamespace(metadata=SimpleNamespace(name="pod-1"), status=status)


def test_a_job_is_the_template_with_the_name_and_arguments_of_the_attempt(runner, batch):
    runner.start(TASK, lambda: True)
    job = batch.jobs[name_job(TASK)]
    assert name_job(TASK) == "mekiki-codec-20261121t075008123-3f9a2c1b-2"
    assert len(name_job(TASK)) <= 63
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["-m", "services.codec.job", TASK.name, "--attempt", "2"]
    assert container["image"] == "mekiki-codec:1"
    assert container["resources"] == {"requests": {"cpu": "0.5"}, "limits": {"nvidia.com/gpu": "1", "memory": "2Gi"}}
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert labels == {
            "team": "line",
            "mekiki.io/service": "codec",
            "mekiki.io/operation": "20261121t075008123-3f9a2c1b",
        }
    assert "args" not in TEMPLATE["spec"]["template"]["spec"]["containers"][0]


def test_no_job_is_made_where_another_replica_was_faster(runner, batch):
    runner.start(TASK, lambda: False)
    assert not batch.jobs
    runner.start(TASK, lambda: True)
    runner.start(TASK, lambda: True)  # the name is taken: that is the same attempt, and it runs
    assert len(batch.jobs) == 1


def test_a_full_house_claims_nothing_until_a_job_has_ended(runner, batch):
    claims = []
    tasks = [Task("codec", f"20261121T07500812{number}-3f9a2c1b", 1) for number in range(4)]
    for task in tasks[:3]:
        runner.start(task, lambda: claims.append(1) or True)
    assert len(claims) == len(batch.jobs) == 2
    batch.ended[name_job(tasks[0])] = make_condition("Complete")
    runner.start(tasks[3], lambda: claims.append(1) or True)
    assert len(claims) == len(batch.jobs) == 3


def test_the_parts_of_a_task_are_the_indices_of_one_job_as_many_at_once_as_there_is_room(runner, batch):
    runner.start(Task("codec", "20261121T075008121-3f9a2c1b", 1), lambda: True)
    task = Task("codec", "20261121T075008122-3f9a2c1b", 1, parts=10)
    runner.start(task, lambda: True)
    spec = batch.jobs[name_job(task)]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 10, 1)
    assert spec["backoffLimit"] == 10  # a lost pod's part is started again by Kubernetes
    assert spec["template"]["spec"]["containers"][0]["args"][-2:] == ["--part", "$(JOB_COMPLETION_INDEX)"]
    assert "completionMode" not in TEMPLATE["spec"]


def test_side_by_side_workers_count_one_by_one(runner, batch):
    first = Task("codec", "20261121T075008121-3f9a2c1b", 1, parts=10)
    runner.start(first, lambda: True)
    assert batch.jobs[name_job(first)]["spec"]["parallelism"] == 2
    claims = []
    runner.start(Task("codec", "20261121T075008122-3f9a2c1b", 1), lambda: claims.append(1) or True)
    assert not claims


def test_jobs_of_another_service_do_not_count(runner, batch):
    for service in ("codec", "codec", "anomaly"):
        runner.start(Task(service, f"20261121T075008123-{len(batch.jobs):08x}", 1), lambda: True)
    assert len(batch.jobs) == 3


def test_a_job_is_seen_running_and_ended(runner, batch):
    assert runner.look(TASK).life is Life.UNKNOWN
    runner.start(TASK, lambda: True)
    assert runner.look(TASK).life is Life.RUNNING
    batch.ended[name_job(TASK)] = make_condition("Complete")
    assert runner.look(TASK).life is Life.ENDED


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        (None, "BackoffLimitExceeded: it failed"),
        (make_pod("Evicted", "the node was low on memory"), "Evicted: the node was low on memory"),
        (make_pod(terminated=SimpleNamespace(reason="OOMKilled", exit_code=137)), "OOMKilled, exit code 137"),
        (make_pod(), "BackoffLimitExceeded: it failed"),
    ],
)
def test_a_failed_job_tells_why(runner, batch, core, pod, told):
    core.pods = [pod] if pod else []
    runner.start(TASK, lambda: True)
    batch.ended[name_job(TASK)] = make_condition("Failed", "BackoffLimitExceeded", "it failed")
    seen = runner.look(TASK)
    assert (seen.life, seen.detail) == (Life.ENDED, told)


def test_a_failed_jobs_pod_is_read_once_however_often_it_is_looked_at(runner, batch, core):
    runner.start(TASK, lambda: True)
    batch.ended[name_job(TASK)] = make_condition("Failed", "BackoffLimitExceeded", "it failed")
    core.pods = [make_pod("Evicted", "the node was low on memory")]
    first = runner.look(TASK)
    core.pods = []
    assert runner.look(TASK) == first
    runner.forget(Task(TASK.service, TASK.operation, TASK.attempt + 1))  # the last attempt stands for all
    assert runner.look(TASK) != first


def test_a_stopped_job_is_deleted_once_and_then_over(runner, batch):
    runner.start(TASK, lambda: True)
    runner.stop(TASK)
    runner.stop(TASK)
    assert not batch.jobs
    assert runner.look(TASK).life is Life.ENDED
    runner.forget(TASK)
    assert runner.look(TASK).life is Life.UNKNOWN


def test_a_worker_has_time_to_stop_by_itself(batch, core):
    patient = ClusterRunner(TEMPLATE, "plant", 2, batch, core, grace_s=60)
    patient.start(TASK, lambda: True)
    patient.stop(TASK)
    patient.stop(TASK)
    assert patient.look(TASK).life is Life.RUNNING


def test_jobs_outlive_the_server(runner, batch):
    runner.start(TASK, lambda: True)
    assert runner.close() == []
    assert batch.jobs


def test_an_api_that_does_not_answer_is_unavailable_and_tells_no_secrets(runner, batch):
    batch.refusal = ApiException(403, "Forbidden")
    batch.refusal.body = "token abc"
    for call in (lambda: runner.start(TASK, lambda: True), lambda: runner.look(TASK), lambda: runner.stop(TASK)):
        with pytest.raises(Unavailable, match="403 Forbidden") as caught:
            call()
        assert "abc" not in str(caught.value)


def test_the_settings_name_the_runner(tmp_path, monkeypatch):
    assert isinstance(open_runner(Settings()), LocalRunner)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="no Jobs can be started"):
        open_runner(Settings(runner="kubernetes", job_template=tmp_path / "none.yaml"))
