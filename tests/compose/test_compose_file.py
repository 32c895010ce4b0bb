"""What docker/compose.yaml says, held against the code, the images and the chart. Nothing is started."""

import os
import re
import shutil
import subprocess

import pytest
import yaml

from services.__main__ import OPENINGS
from tests.conftest import ROOT

DOCKER = ROOT / "docker"
SETTINGS = {opening.name: opening.settings_class for opening in OPENINGS}
SERVICES = sorted(SETTINGS)
VARIABLE = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")
VERSION = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def read_containers():
    """Every container, with the defaults of all variables."""
    text = VARIABLE.sub(lambda found: found[2], (DOCKER / "compose.yaml").read_text())
    return yaml.safe_load(text)["services"]


CONTAINERS = read_containers()
ALL = pytest.mark.parametrize("name", sorted(CONTAINERS))
FOUR = pytest.mark.parametrize("name", SERVICES)


def mounts(name):
    """Source, target and whether it may be written to, of every volume."""
    for volume in CONTAINERS[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        yield source, target, mode != ["ro"]


def published(name):
    for port in CONTAINERS[name].get("ports", []):
        host, outside, inside = port.split(":")
        yield host, int(outside), int(inside)


@FOUR
def test_a_service_understands_its_environment(name, monkeypatch):
    environment = CONTAINERS[name]["environment"]
    names = {variable for variable in environment if variable.startswith("MEKIKI_")}
    assert names <= {f"MEKIKI_{field.upper()}" for field in SETTINGS[name].model_fields}
    for variable in [variable for variable in os.environ if variable.startswith("MEKIKI_")]:
        monkeypatch.delenv(variable)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = SETTINGS[name]()
    assert settings.store_url == "s3://mekiki"
    assert settings.runner == "local"


def test_every_variable_that_is_named_exists():
    fields = {f"MEKIKI_{field.upper()}" for settings in SETTINGS.values() for field in settings.model_fields}
    for file in ("compose.yaml", "compose.sh"):
        named = set(re.findall(r"\bMEKIKI_[A-Z_0-9]+", (DOCKER / file).read_text()))
        assert named - {"MEKIKI_TAG"} <= fields


@FOUR
def test_a_service_calls_its_neighbours_where_they_listen(name):
    environment = CONTAINERS[name]["environment"]
    for neighbour in ("codec", "saliency"):
        port = CONTAINERS[neighbour]["environment"]["MEKIKI_PORT"]
        assert environment[f"MEKIKI_{neighbour.upper()}_ADDRESS"] == f"{neighbour}:{port}"


@FOUR
def test_images_are_those_that_make_images_builds(name):
    script = (DOCKER / "images.sh").read_text()
    built = re.search(r"for service in \$\{\*:-([a-z ]+)\}", script)[1].split()
    assert name in built
    assert '--tag "mekiki-$service:$tag"' in script
    assert CONTAINERS[name]["image"] == f"mekiki-{name}:{VERSION}"


@ALL
def test_every_image_is_pinned_to_a_version(name):
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", CONTAINERS[name]["image"])


@ALL
def test_no_container_can_become_more_than_it_is(name):
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["mem_limit"]
    assert container["pids_limit"]
    assert "privileged" not in container
    if name == "bucket":  # it gives the bucket away, and reaches nobody
        assert (container["cap_add"], container["network_mode"]) == (["CHOWN"], "none")
    else:
        assert "cap_add" not in container
        assert int(container["user"].split(":")[0]) > 0


@FOUR
def test_a_service_writes_to_its_cache_and_to_a_temporary_folder(name):
    assert [target for _, target, is_writable in mounts(name) if is_writable] == ["/var/cache/mekiki"]
    assert [folder.split(":")[0] for folder in CONTAINERS[name]["tmpfs"]] == ["/tmp"]


@FOUR
def test_the_check_asks_the_port_that_answers_health_alone(name):
    _, program, _, code = CONTAINERS[name]["healthcheck"]["test"]
    compile(code, "healthcheck", "exec")
    assert program == "/usr/bin/python3"
    assert "MEKIKI_HEALTH_PORT" in code
    assert CONTAINERS[name]["environment"]["MEKIKI_HEALTH_PORT"] not in {str(port[2]) for port in published(name)}


@FOUR
def test_a_service_has_time_to_drain(name):
    assert int(CONTAINERS[name]["stop_grace_period"].removesuffix("s")) > SETTINGS[name]().drain_timeout_s + 10


@ALL
def test_ports_are_this_machines_alone(name):
    assert {host for host, _, _ in published(name)} <= {"127.0.0.1"}


def test_no_two_containers_want_one_port():
    ports = [port for name in CONTAINERS for _, port, _ in published(name)]
    assert len(ports) == len(set(ports))


def test_the_address_that_is_told_is_where_the_services_listen():
    told = re.search(r"address=(\S+)", (DOCKER / "compose.sh").read_text())[1]
    listening = {f"{name}=127.0.0.1:{outside}" for name in SERVICES for _, outside, _ in published(name)}
    assert set(told.split(",")) == listening
    inside = {inside for name in SERVICES for _, _, inside in published(name)}
    assert inside == {int(CONTAINERS[name]["environment"]["MEKIKI_PORT"]) for name in SERVICES}


@ALL
def test_what_is_mounted_is_there(name):
    declared = yaml.safe_load((DOCKER / "compose.yaml").read_text())["volumes"]
    for source, _, is_writable in mounts(name):
        if source.startswith("."):
            assert (DOCKER / source).is_file(), source
            assert not is_writable, source
        else:
            assert source in declared


def test_the_store_and_its_clients_have_the_same_credentials():
    store = CONTAINERS["objects"]["environment"]
    for name in SERVICES:
        shown = CONTAINERS[name]["environment"]
        assert shown["AWS_ACCESS_KEY_ID"] == store["ROOT_ACCESS_KEY"]
        assert shown["AWS_SECRET_ACCESS_KEY"] == store["ROOT_SECRET_KEY"]


def test_prometheus_scrapes_every_service_by_its_name():
    scraped = yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {one["job_name"]: one["static_configs"][0]["targets"] for one in scraped}
    ports = {name: CONTAINERS[name]["environment"]["MEKIKI_METRICS_PORT"] for name in SERVICES}
    assert targets == {name: [f"{name}:{port}"] for name, port in ports.items()}


def test_alerts_and_dashboard_are_the_charts_own():
    files = {source for name in ("prometheus", "grafana") for source, _, _ in mounts(name)}
    assert {"../deploy/chart/files/alerts.yaml", "../deploy/chart/files/dashboard.json"} <= files
    targets = {target for _, target, _ in mounts("prometheus")}
    assert set(yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["rule_files"]) <= targets
    (provider,) = yaml.safe_load((DOCKER / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert any(target.startswith(provider["options"]["path"] + "/") for _, target, _ in mounts("grafana"))
    (source,) = yaml.safe_load((DOCKER / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{next(published('prometheus'))[2]}"


def test_compose_itself_takes_the_file():
    if shutil.which("docker-compose") is None and not has_plugin():
        pytest.skip("docker/compose.yaml is not read by compose: it is not installed")
    command = [DOCKER / "compose.sh", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def has_plugin():
    docker = shutil.which("docker")
    asked = [docker, "compose", "version"]
    return docker is not None and subprocess.run(asked, capture_output=True, check=False).returncode == 0
