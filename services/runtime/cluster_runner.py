"""Workers as Kubernetes Jobs: one Job per attempt at an operation, made from a template that the chart renders.

The parts of an operation are the indices of an Indexed Job: side by side as far as there is room, and a lost one is
started again by Kubernetes itself.

A Job's name follows from the attempt, so the API server itself lets nobody start one twice. Jobs outlive the server
that started them: any replica looks at them, stops them and takes up what comes after.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from services.runtime.config import Settings
from services.runtime.errors import Unavailable
from services.runtime.logs import get_logger
from services.runtime.runners import Life, Sighting, Task

ANSWER_S = 5.0
"""Longest time for one answer of the API server."""
GRACE_S = 10.0
"""A worker sees by itself, in the store, that it must stop; a Job that is still there after this time is deleted."""
LOG_LINES = 20
"""So many last lines of a failed worker's log go into ours."""
_MISSING, _TAKEN = 404, 409
_OPERATION, _SERVICE = "mekiki.io/operation", "mekiki.io/service"

Manifest = dict[str, Any]


class ClusterRunner:
    """Runs `python -m services.<service>.job NAME` as Jobs of one namespace, at most `max_jobs` of a service at once.

    Args:
        template: a `batch/v1 Job`; its first container gets the arguments, its name and labels are set here.
        namespace: where Jobs are made.
        max_jobs: most workers of one service at once.
        batch: kubernetes' BatchV1Api.
        core: kubernetes' CoreV1Api, to tell why a pod failed.
        grace_s: how long a worker that should stop may take before its Job is deleted.
    """

    def __init__(
        self,
        template: Manifest,
        namespace: str,
        max_jobs: int,
        batch: Any,  # noqa: ANN401 - untyped library
        core: Any,  # noqa: ANN401
        grace_s: float = GRACE_S,
    ) -> None:
        self._template = template
        self._namespace = namespace
        self._max_jobs = max_jobs
        self._batch = batch
        self._core = core
        self._grace_s = grace_s
        self._asked_s: dict[Task, float] = {}  # when it was first to stop
        self._deleted: set[Task] = set()
        self._failures: dict[Task, str] = {}  # told once: a failed Job is looked at until there is room for the next
        self._log = get_logger()

    @classmethod
    def open(cls, settings: Settings) -> "ClusterRunner":
        """Connects with the pod's own service account, or with KUBECONFIG outside of a cluster.

        Raises:
            Unavailable: there is neither, or the template cannot be read.
        """
        try:
            template = yaml.safe_load(settings.job_template.read_text(encoding="utf-8"))
            kubernetes.config.load_config()  # type: ignore[no-untyped-call]
        except (OSError, yaml.YAMLError, kubernetes.config.ConfigException) as error:
            raise Unavailable(f"no Jobs can be started: {error}") from error
        client = kubernetes.client
        return cls(template, _namespace(template), settings.max_jobs, client.BatchV1Api(), client.CoreV1Api())

    def start(self, task: Task, claim: Callable[[], bool]) -> None:
        """Creates the Job if there is room and the claim succeeds."""
        room = self._max_jobs - self._count_workers(task.service)
        if room <= 0 or not claim():
            return
        job = self._describe(task)
        if task.parts > 1:
            _split(job, task.parts, min(room, task.parts))
        with _asking(but=_TAKEN):
            self._batch.create_namespaced_job(self._namespace, job, _request_timeout=ANSWER_S)

    def look(self, task: Task) -> Sighting:
        """How the task's Job stands; UNKNOWN where there is none (yet), then its heartbeat tells."""
        job = self._read(task)
        if job is None:
            return Sighting(Life.ENDED, "its Job was deleted") if task in self._deleted else Sighting(Life.UNKNOWN)
        kinds = {condition.type: condition for condition in job.status.conditions or () if condition.status == "True"}
        if "Failed" in kinds:
            if task not in self._failures:
                self._failures[task] = self._tell_failure(task, kinds["Failed"])
            return Sighting(Life.ENDED, self._failures[task])
        return Sighting(Life.ENDED, "exit code 0") if "Complete" in kinds else Sighting(Life.RUNNING)

    def stop(self, task: Task) -> None:
        """Deletes the Job at a call after the grace: its pod is sent SIGTERM, and SIGKILL after a grace of its own."""
        now_s = time.monotonic()
        if now_s - self._asked_s.setdefault(task, now_s) < self._grace_s:
            return
        self._deleted.add(task)
        with _asking(but=_MISSING):
            self._batch.delete_namespaced_job(
                name_job(task), self._namespace, propagation_policy="Foreground", _request_timeout=ANSWER_S
            )

    def forget(self, task: Task) -> None:
        """The template's time to live removes the Job."""
        for number in range(1, task.attempt + 1):
            attempt = replace(task, attempt=number)
            self._asked_s.pop(attempt, None)
            self._deleted.discard(attempt)
            self._failures.pop(attempt, None)

    def close(self) -> Sequence[Task]:
        """Nothing: Jobs outlive this process."""
        return []

    def _describe(self, task: Task) -> Manifest:
        job = copy.deepcopy(self._template)
        labels = {_SERVICE: task.service, _OPERATION: task.operation.lower()}
        job["metadata"] = _labelled(job.get("metadata"), labels) | {"name": name_job(task)}
        template = job["spec"]["template"]
        template["metadata"] = _labelled(template.get("metadata"), labels)
        container = template["spec"]["containers"][0]
        container["resources"] = _as_texts(container.get("resources", {}))
        container["args"] = ["-m", f"services.{task.service}.job", task.name, "--attempt", str(task.attempt)]
        return job

    def _count_workers(self, service: str) -> int:
        with _asking():
            jobs = self._batch.list_namespaced_job(
                self._namespace, label_selector=f"{_SERVICE}={service}", _request_timeout=ANSWER_S
            )
        return sum(job.spec.parallelism or 1 for job in jobs.items if not _has_ended(job))

    def _read(self, task: Task) -> Any:  # noqa: ANN401 - a V1Job, or None where there is none
        job = None
        with _asking(but=_MISSING):
            job = self._batch.read_namespaced_job(name_job(task), self._namespace, _request_timeout=ANSWER_S)
        return job  # noqa: RET504 - None where there is none

    def _tell_failure(self, task: Task, condition: Any) -> str:  # noqa: ANN401 - a V1JobCondition
        """Why a Job failed, from its pod where that is still there; the pod's last words go into our log."""
        said = f"{condition.reason}: {condition.message}"
        try:
            selector = f"batch.kubernetes.io/job-name={name_job(task)}"
            pods = self._core.list_namespaced_pod(
                self._namespace, label_selector=selector, _request_timeout=ANSWER_S
            ).items
            if pods:
                said = _tell_end(pods[-1]) or said
                self._quote(task, pods[-1].metadata.name)
        except (ApiException, HTTPError) as error:
            self._log.warning("a failed worker's pod cannot be read", operation=task.name, error=_tell(error))
        return said

    def _quote(self, task: Task, pod: str) -> None:
        words = self._core.read_namespaced_pod_log(
            pod, self._namespace, tail_lines=LOG_LINES, _request_timeout=ANSWER_S
        )
        self._log.warning("a worker failed", operation=task.name, attempt=task.attempt, pod=pod, log=words)


def _split(job: Manifest, parts: int, side_by_side: int) -> None:
    """Makes it an Indexed Job: every pod gets the number of its part as the controller's JOB_COMPLETION_INDEX."""
    indexed = {"completionMode": "Indexed", "completions": parts, "parallelism": side_by_side, "backoffLimit": parts}
    job["spec"] |= indexed
    job["spec"]["template"]["spec"]["containers"][0]["args"] += ["--part", "$(JOB_COMPLETION_INDEX)"]


def name_job(task: Task) -> str:
    """The Job of one attempt, such as "mekiki-codec-20261121t075008123-3f9a2c1b-1"."""
    return f"mekiki-{task.service}-{task.operation.lower()}-{task.attempt}"


def _labelled(metadata: Manifest | None, labels: Mapping[str, str]) -> Manifest:
    metadata = metadata or {}
    return metadata | {"labels": {**metadata.get("labels", {}), **labels}}


def _as_texts(resources: Manifest) -> Manifest:
    """The same requests and limits as texts: YAML makes a number of a 1, and the client takes none."""
    return {kind: {name: str(amount) for name, amount in amounts.items()} for kind, amounts in resources.items()}


def _namespace(template: Manifest) -> str:
    """Where the template says, else the pod's own namespace."""
    own = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    named = template.get("metadata", {}).get("namespace")
    return str(named or (own.read_text(encoding="ascii").strip() if own.is_file() else "default"))


def _has_ended(job: Any) -> bool:  # noqa: ANN401 - a V1Job
    conditions = job.status.conditions or ()
    return any(condition.type in ("Complete", "Failed") and condition.status == "True" for condition in conditions)


def _tell_end(pod: Any) -> str:  # noqa: ANN401 - a V1Pod
    """Such as "Evicted: the node was low on memory" or "OOMKilled, exit code 137"; "" where nothing is known."""
    if pod.status.reason:
        return f"{pod.status.reason}: {pod.status.message or ''}".rstrip(": ")
    states = [status.state.terminated for status in pod.status.container_statuses or () if status.state.terminated]
    return f"{states[0].reason}, exit code {states[0].exit_code}" if states else ""


def _tell(error: Exception) -> str:
    return f"{error.status} {error.reason}" if isinstance(error, ApiException) else type(error).__name__


@contextmanager
def _asking(but: int = 0) -> Iterator[None]:
    """What the API server refuses, or does not answer, is Unavailable; the status `but` is no trouble."""
    try:
        yield
    except (ApiException, HTTPError) as error:
        if not isinstance(error, ApiException) or error.status != but:
            raise Unavailable(f"the cluster's API does not help: {_tell(error)}") from error
