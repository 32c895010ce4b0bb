"""Who may reach whom, and who may do what in the cluster: no more than the code needs."""

import re

import pytest
from rendering import NAMESPACE, VARIANTS, environment, render

from services.__main__ import OPENINGS
from tests.conftest import ROOT

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("chart")]

NAMES = sorted(opening.name for opening in OPENINGS)
COMPONENT = "app.kubernetes.io/component"


def calls_of(files):
    """The services that some files of code call, by the settings that they read."""
    return {name for file in files for name in re.findall(r"settings\.(\w+)_address", file.read_text())}


def edges_in_code():
    for name in NAMES:
        folder = ROOT / "services" / name
        job = folder / "job.py"
        for callee in calls_of(set(folder.rglob("*.py")) - {job}):
            yield name, callee
        for callee in calls_of([job]):
            yield f"{name}-job", callee


def components(peers):
    return {peer["podSelector"]["matchLabels"].get(COMPONENT) for peer in peers if "podSelector" in peer} - {None}


def policies(rendering):
    return {one["spec"]["podSelector"]["matchLabels"][COMPONENT]: one["spec"] for one in rendering.all("NetworkPolicy")}


def test_the_code_calls_as_the_design_says():
    assert {edge for edge in edges_in_code() if not edge[0].endswith("-job")} == {
        ("boxfit", "saliency"),
        ("boxfit", "codec"),
        ("saliency", "codec"),
        ("anomaly", "codec"),
    }


def test_the_policies_are_the_call_graph_of_the_code_in_both_directions(variant):
    _, rendering = variant
    found = policies(rendering)
    assert set(found) == {f"{name}{job}" for name in NAMES for job in ("", "-job")}
    out = {
        (name, callee)
        for name, spec in found.items()
        for rule in spec["egress"]
        for callee in components(rule.get("to", []))
    }
    into = {
        (caller, name)
        for name, spec in found.items()
        for rule in spec["ingress"]
        for caller in components(rule["from"])
    }
    assert out == into == set(edges_in_code())


def test_a_service_is_told_the_addresses_of_those_that_it_calls_and_of_no_other(default):
    for component, pod in default.pods().items():
        told = {one["name"] for one in pod["containers"][0]["env"] if one["name"].endswith("_ADDRESS")}
        callees = {callee for caller, callee in edges_in_code() if caller == component.removesuffix("-job")}
        assert told == {f"MEKIKI_{callee.upper()}_ADDRESS" for callee in callees}


def test_both_directions_are_closed_unless_opened(variant):
    _, rendering = variant
    for component, spec in policies(rendering).items():
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert (spec["ingress"] == []) == component.endswith("-job")


def test_ports_are_opened_to_those_who_need_them(default):
    for component, spec in policies(default).items():
        if component.endswith("-job"):
            continue
        calls, metrics = spec["ingress"]
        assert {port["port"] for port in calls["ports"]} == {8080}
        assert {"namespaceSelector": {}, "podSelector": {"matchLabels": {"mekiki.io/client": "true"}}} in calls["from"]
        assert {port["port"] for port in metrics["ports"]} == {9090}
        assert len(metrics["from"]) == 1


def test_the_world_outside_is_dns_the_object_store_and_for_those_that_start_jobs_the_api(secured):
    for component, spec in policies(secured).items():
        outside = [rule for rule in spec["egress"] if not components(rule.get("to", []))]
        ports = [sorted({port["port"] for port in rule["ports"]}) for rule in outside]
        assert ports == ([[53], [9000]] if component.endswith("-job") else [[53], [9000], [443, 6443]])
        assert outside[1]["to"] == [{"ipBlock": {"cidr": "10.20.0.7/32"}}]


def test_the_collector_of_traces_is_reached_where_there_is_one(secured):
    where = {"podSelector": {"matchLabels": {"app": "collector"}}}
    traced = render(
        {"config": {"traces_endpoint": "https://collector:4317"}, "networkPolicy": {"traces": {"peers": [where]}}}
    )
    for component, spec in policies(traced).items():
        found = [rule for rule in spec["egress"] if {"port": 4317, "protocol": "TCP"} in rule["ports"]]
        assert [rule["to"] for rule in found] == [[where]], component
    assert all(environment(pod)["MEKIKI_TRACES_ENDPOINT"] == "https://collector:4317" for pod in traced.pods().values())
    assert not any(
        {port["port"] for port in rule["ports"]} == {4317}
        for spec in policies(secured).values()
        for rule in spec["egress"]
    )


def test_only_services_that_start_operations_may_create_jobs_and_only_in_their_namespace(default):
    starters = {
        file.parent.name for file in (ROOT / "services").glob("*/servicer.py") if "open_operations(" in file.read_text()
    }
    bound = {}
    for binding in default.all("RoleBinding"):
        (subject,) = binding["subjects"]
        assert subject["namespace"] == NAMESPACE
        bound[subject["name"]] = default.find("Role", binding["roleRef"]["name"])["rules"]
    assert set(bound) == {f"mekiki-{name}" for name in starters}
    for rules in bound.values():
        assert {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]} == {
            *(("jobs", verb) for verb in ("create", "get", "list", "watch", "delete")),
            ("pods", "get"),
            ("pods", "list"),
            ("pods/log", "get"),
        }


def test_nothing_belongs_to_the_cluster_but_priorities(variant):
    _, rendering = variant
    assert rendering.all("ClusterRole") == rendering.all("ClusterRoleBinding") == []
    assert {one["preemptionPolicy"] for one in rendering.all("PriorityClass") if "preemptionPolicy" in one} == {"Never"}


def test_a_token_of_the_api_is_given_to_those_that_start_jobs_alone(default):
    for component, pod in default.pods().items():
        assert pod["automountServiceAccountToken"] is (not component.endswith("-job"))
        assert pod["serviceAccountName"] == f"mekiki-{component}"
    assert all(one["automountServiceAccountToken"] is False for one in default.all("ServiceAccount"))


def test_without_kubernetes_jobs_nobody_may_anything():
    rendering = render({"config": {"runner": "local"}})
    assert rendering.all("Role") == rendering.all("RoleBinding") == []
    assert not any(pod["automountServiceAccountToken"] for pod in rendering.pods().values())
    assert all(
        {443, 6443} != {port["port"] for port in rule["ports"]}
        for spec in policies(rendering).values()
        for rule in spec["egress"]
    )


def test_jobs_hold_no_keys_to_check_tokens_with(secured):
    for component, pod in secured.pods().items():
        held = {one["name"] for one in pod["volumes"] if "secret" in one}
        assert held == {"tls", "service-token"} | (set() if component.endswith("-job") else {"tokens", "jwks"})
    assert VARIANTS["tls-auth"]["auth"]["enabled"]
