"""What is installed: as it was reviewed, as Kubernetes takes it, and as the services need it."""

import math
import os
from pathlib import PurePath

import kubernetes_validate
import pytest
from rendering import CHART, GOLDEN, KUBERNETES, RELEASE, VARIANTS, environment, render, run_helm

from mekiki.anomaly.v1 import anomaly_pb2
from mekiki.boxfit.v1 import boxfit_pb2
from mekiki.codec.v1 import codec_pb2
from mekiki.saliency.v1 import saliency_pb2
from services.__main__ import OPENINGS
from services.runtime.local_runner import LocalRunner

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("chart")]  # the first of them builds helm

NAMES = {opening.name for opening in OPENINGS}
PROTOS = {"codec": codec_pb2, "saliency": saliency_pb2, "boxfit": boxfit_pb2, "anomaly": anomaly_pb2}
TORCH = {"saliency", "anomaly"}
OTHERS = {"ServiceMonitor": "endpoints", "PrometheusRule": "groups", "Certificate": "secretName"}
"""Kinds that Kubernetes itself does not know, with something that they must say."""


def test_helm_finds_nothing_to_complain_of():
    text, error = run_helm(["lint", "--strict", str(CHART)])
    assert error == ""
    assert "0 chart(s) failed" in text


def test_it_renders_what_was_reviewed(variant):
    """GOLDEN=write writes them anew: look at the difference before you commit it."""
    name, rendering = variant
    assert rendering.error == ""
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(rendering.text)
    assert rendering.text == golden.read_text()


def test_kubernetes_takes_every_manifest(variant):
    _, rendering = variant
    jobs = [rendering.job(name) for name in NAMES]
    for job in jobs:
        job["metadata"]["name"] = "mekiki-codec-1"
        job["spec"]["template"]["spec"]["containers"][0]["args"] = ["-m", "services.codec.job"]
    for one in rendering.objects + jobs:
        if one["kind"] in OTHERS:
            assert OTHERS[one["kind"]] in one["spec"]
        else:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_a_misspelt_field_would_be_found():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Pod", "spec": {"container": []}}, KUBERNETES, strict=True
        )


def test_names_are_unique(variant):
    _, rendering = variant
    names = [(one["kind"], one["metadata"]["name"]) for one in rendering.objects]
    assert len(names) == len(set(names))


def test_each_service_has_its_deployment_and_image(default):
    images = {name: pod["containers"][0]["image"] for name, pod in default.pods().items()}
    assert images == {f"{name}{job}": f"mekiki-{name}:0.1.0" for name in NAMES for job in ("", "-job")}


def test_the_registry_stands_before_the_image():
    rendering = render({"image": {"registry": "harbor.plant.example/vision/", "tag": "0.2.0"}})
    assert rendering.pods()["codec"]["containers"][0]["image"] == "harbor.plant.example/vision/mekiki-codec:0.2.0"


def test_a_rolling_update_takes_no_pod_before_the_next_one_serves(default):
    for deployment in default.all("Deployment"):
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"] == {
            "sleep": {"seconds": 3}
        }


@pytest.mark.parametrize("drain_s", [0, 30, 90.5])
def test_a_pod_has_time_to_pause_to_drain_and_to_stop_its_jobs(drain_s):
    grace_s = LocalRunner.__init__.__defaults__[-1]
    for deployment in render({"config": {"drain_timeout_s": drain_s}}).all("Deployment"):
        given_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert given_s > math.ceil(drain_s) + 3 + grace_s


@pytest.mark.parametrize("name", sorted(NAMES))
def test_probes_ask_the_health_that_the_service_serves_without_tls(secured, name):
    (container,) = secured.pods()[name]["containers"]
    (service,) = PROTOS[name].DESCRIPTOR.services_by_name.values()
    port = int(environment(secured.pods()[name])["MEKIKI_HEALTH_PORT"])
    assert container["readinessProbe"]["grpc"] == {"port": port, "service": service.full_name}
    assert container["startupProbe"]["grpc"] == {"port": port, "service": service.full_name}
    assert container["livenessProbe"]["grpc"] == {"port": port, "service": ""}


def test_no_pod_can_become_more_than_it_is(variant):
    _, rendering = variant
    for pod in rendering.pods().values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
        assert writable == {"/tmp", "/var/cache/mekiki"}
        assert pod["enableServiceLinks"] is False


def test_gpus_are_asked_for_by_those_that_compute_on_them():
    for name, pod in render(VARIANTS["gpu"]).pods().items():
        asks = name.removesuffix("-job") in TORCH
        (container,) = pod["containers"]
        assert container["resources"]["limits"].get("nvidia.com/gpu", 0) == (1 if asks else 0)
        assert pod.get("runtimeClassName") == ("nvidia" if asks else None)
        assert ("nodeSelector" in pod, "tolerations" in pod) == (asks, asks)
        assert environment(pod)["MEKIKI_DEVICE"] == ("cuda" if asks else "cpu")


def test_one_switch_asks_for_no_gpu_anywhere():
    rendering = render({"config": {"device": "cpu"}})
    assert "nvidia" not in rendering.text
    assert {environment(pod)["MEKIKI_DEVICE"] for pod in rendering.pods().values()} == {"cpu"}


def test_a_service_may_differ_from_all_others():
    rendering = render({"services": {"saliency": {"config": {"device": "cpu", "port": 8081, "max_batch": 4}}}})
    pods = rendering.pods()
    assert "nvidia.com/gpu" not in pods["saliency"]["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" in pods["anomaly"]["containers"][0]["resources"]["limits"]
    assert environment(pods["saliency"])["MEKIKI_MAX_BATCH"] == "4"
    assert environment(pods["boxfit"])["MEKIKI_SALIENCY_ADDRESS"] == "mekiki-saliency-headless.plant.svc:8081"


def test_nothing_and_false_are_values_too():
    own = {"autoscaling": {"enabled": False}, "replicas": 0, "config": {"weights_hub": False, "max_wait_ms": 0}}
    rendering = render({"services": {"codec": own}})
    assert rendering.find("Deployment", "mekiki-codec")["spec"]["replicas"] == 0
    settings = environment(rendering.pods()["codec"])
    assert (settings["MEKIKI_WEIGHTS_HUB"], settings["MEKIKI_MAX_WAIT_MS"]) == ("false", "0")


@pytest.mark.parametrize("opening", OPENINGS, ids=lambda opening: opening.name)
def test_a_service_and_its_jobs_understand_their_environment(variant, opening, monkeypatch, tmp_path):
    """Files that come from Secrets, where the pod has them mounted, must be there."""
    _, rendering = variant
    for component in (opening.name, f"{opening.name}-job"):
        pod = rendering.pods()[component]
        mounted = {one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
        with monkeypatch.context() as patch:
            for name, value in environment(pod).items():
                patch.setenv(name, provide_file(value, mounted, tmp_path / component))
            settings = opening.settings_class()
        assert settings.max_message_bytes == 64 << 20
        assert settings.host == "0.0.0.0"


def provide_file(value, mounted, folder):
    """Returns the value, or the path of a file in the folder where it is a Secret's that is mounted."""
    if not value.startswith("/run/secrets/"):
        return value
    assert str(PurePath(value).parent) in mounted
    file = folder / value.removeprefix("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return str(file)


def test_settings_name_the_files_of_the_secrets(secured):
    settings = environment(secured.pods()["codec"])
    folder = "/run/secrets/mekiki"
    assert settings["MEKIKI_TLS_CERT"] == f"{folder}/tls/tls.crt"
    assert settings["MEKIKI_TLS_KEY"] == f"{folder}/tls/tls.key"
    assert settings["MEKIKI_TLS_CLIENT_CA"] == settings["MEKIKI_TLS_CA"] == f"{folder}/tls/ca.crt"
    assert settings["MEKIKI_AUTH_TOKENS"] == f"{folder}/tokens/tokens.json"
    assert settings["MEKIKI_AUTH_JWKS"] == f"{folder}/jwks/jwks.json"
    assert settings["MEKIKI_SERVICE_TOKEN_FILE"] == f"{folder}/service-token/token"


def test_every_variable_is_a_setting(variant):
    _, rendering = variant
    fields = {opening.name: opening.settings_class.model_fields for opening in OPENINGS}
    for component, pod in rendering.pods().items():
        settings = {name for name in environment(pod) if name.startswith("MEKIKI_")}
        assert settings <= {f"MEKIKI_{name.upper()}" for name in fields[component.removesuffix("-job")]}


def test_replicas_follow_the_wait_of_the_queue_or_the_cpu_or_stay():
    for name in NAMES:
        waiting = render({}).find("HorizontalPodAutoscaler", f"{RELEASE}-{name}")["spec"]["metrics"]
        assert waiting[0]["pods"]["metric"] == {"name": "mekiki_queue_wait_seconds"}
        computing = render(VARIANTS["cpu"]).find("HorizontalPodAutoscaler", f"{RELEASE}-{name}")["spec"]["metrics"]
        assert computing[0]["resource"]["name"] == "cpu"
    fixed = render(VARIANTS["hpa-off"])
    assert fixed.all("HorizontalPodAutoscaler") == []
    assert {one["spec"]["replicas"] for one in fixed.all("Deployment")} == {3}
    assert all("replicas" not in one["spec"] for one in render({}).all("Deployment"))


def test_jobs_run_inside_the_service_where_there_are_to_be_none():
    rendering = render({"config": {"runner": "local"}})
    assert set(rendering.pods()) == NAMES
    assert "/etc/mekiki" not in rendering.text


def test_credentials_come_from_a_secret_or_from_the_pods_identity(default, secured):
    assert environment(secured.pods()["codec-job"])["AWS_SECRET_ACCESS_KEY"] == "bucket/AWS_SECRET_ACCESS_KEY"
    assert "AWS_SECRET_ACCESS_KEY" not in environment(default.pods()["codec"])
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/parts"}
    accounts = render({"serviceAccount": {"annotations": role}}).all("ServiceAccount")
    assert len(accounts) == 8
    assert all(one["metadata"]["annotations"] == role for one in accounts)


def test_keys_given_as_values_land_in_a_secret_and_nowhere_else():
    rendering = render({"objectStore": {"accessKeyId": "AKIA", "secretAccessKey": "hush"}})
    assert rendering.find("Secret", "mekiki-store")["stringData"]["AWS_SECRET_ACCESS_KEY"] == "hush"
    assert rendering.text.count("hush") == 1
    assert environment(rendering.pods()["codec"])["AWS_ACCESS_KEY_ID"] == "mekiki-store/AWS_ACCESS_KEY_ID"


def test_a_certificate_names_what_callers_dial(secured):
    names = secured.find("Certificate", "mekiki-tls")["spec"]["dnsNames"]
    dialled = {
        environment(pod).get(f"MEKIKI_{name.upper()}_ADDRESS") for name in NAMES for pod in secured.pods().values()
    }
    assert {address.split(":")[0] for address in dialled if address} <= set(names)
    assert {f"mekiki-{name}.plant.svc" for name in NAMES} <= set(names)


def test_secrets_are_mounted_as_whole_folders_so_that_rotated_ones_are_seen(secured):
    for pod in secured.pods().values():
        mounts = {one["name"]: one for one in pod["containers"][0]["volumeMounts"]}
        assert mounts["tls"]["mountPath"] == "/run/secrets/mekiki/tls"
        assert all("subPath" not in mount for mount in mounts.values())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"config": {"max_bach": 3}}, "'max_bach'"),
        ({"config": {"max_batch": 0}}, "/config/max_batch"),
        ({"config": {"store_url": "file:///data"}}, "/config/store_url"),
        ({"config": {"device": "gpu"}}, "/config/device"),
        ({"services": {"codec": {"config": {"threads": "all"}}}}, "/services/codec/config/threads"),
        ({"services": {"boxfit": {"config": {"threads": 1}}}}, "'threads'"),
        ({"services": {"codec": {"autoscaling": {"maxReplicas": "two"}}}}, "/autoscaling/maxReplicas"),
        ({"services": {"codex": {}}}, "'codex'"),
        ({"defaults": {"resources": {"limit": {"cpu": 1}}}}, "'limit'"),
        ({"defaults": {"tolerations": [{"effects": "NoSchedule"}]}}, "'effects'"),
        ({"defaults": {"env": {"MEKIKI_PORT": "1"}}}, "MEKIKI_PORT"),
        ({"defaults": {"tmpSize": "2 GB"}}, "/defaults/tmpSize"),
        ({"image": {"tag": "latest"}}, "/image/tag"),
        ({"networkPolicy": {"clients": []}}, "/networkPolicy/clients"),
        ({"tls": {"enabled": True}}, "tls.certManager.issuer"),
        ({"auth": {"enabled": True}}, "auth.tokensSecret"),
        ({"auth": {"enabled": True, "jwksSecret": "jwks"}}, "config.auth_audience"),
        ({"objectStore": {"accessKeyId": "AKIA"}}, "objectStore.secretAccessKey"),
        ({"services": {"codec": {"autoscaling": {"minReplicas": 9}}}}, "services.codec.autoscaling.maxReplicas"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_by_its_name(values, named):
    rendering = render(values)
    assert named in rendering.error


def test_a_changed_job_makes_new_pods():
    """A pod reads its Job once: under the same name a change would never reach it."""
    plain, changed = render({}), render({"defaults": {"job": {"keepSeconds": 77}}})
    for service in ("codec", "anomaly"):
        assert changed.job(service)["spec"]["ttlSecondsAfterFinished"] == 77
        names = {
            volume["configMap"]["name"]
            for rendering in (plain, changed)
            for volume in rendering.find("Deployment", f"{RELEASE}-{service}")["spec"]["template"]["spec"]["volumes"]
            if volume["name"] == "job"
        }
        assert len(names) == 2
    assert all(one["immutable"] for one in plain.all("ConfigMap") if "job.yaml" in one["data"])
