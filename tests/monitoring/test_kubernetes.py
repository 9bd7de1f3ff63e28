"""deploy/kubernetes: valid for the schemas, and the parts fit together. No cluster has seen them."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1 as operator

from ecolyzer_otel.boot.private_meter import AGENT_SOCKET
from ecolyzer_otel.version import __version__

from .tools import ROOT, read_documents, read_yaml

sys.path.insert(0, str(ROOT / "grafana"))
from parts.kubernetes import MAX_BYTES, dashboard_documents, documents, rule_documents

FOLDER = ROOT / "deploy" / "kubernetes"
RELEASE = "1.33"
KUSTOMIZATION = read_yaml(FOLDER / "kustomization.yml")
OBJECTS = [
    one for file in sorted(FOLDER.glob("*.yml")) if file.name != "kustomization.yml" for one in read_documents(file)
]
SAMPLE_RULES = {
    "alerts.yml": "# why\ngroups:\n  - name: a\n    rules:\n      - alert: A\n        expr: up == 0\n"
    "        for: 1m\n        labels:\n          severity: info\n        annotations:\n"
    "          summary: '{{ $labels.job }} is down'\n",
    "recording.yml": "---\ngroups:\n  - name: b\n    interval: 30s\n    rules:\n      - record: a:b:c\n"
    "        expr: |\n          sum(\n            up\n          )\n",
}
SAMPLE_DASHBOARDS = {
    "ecolyzer-fleet.json": json.dumps(
        {"title": "Fleet: 100 % of \u20ac", "panels": [{"expr": "rate(a{b='c'}[5m])"}]}, indent=2
    )
    + "\n",
    "runbooks.json": '{"title": "{{ model }}",\n\n  "text": "# no comment"}',
}


def validate(document: dict[str, Any]) -> None:
    """Raise where the schema of this kind does not hold, or has no such key."""
    if document["apiVersion"] != "monitoring.coreos.com/v1":
        kubernetes_validate.validate(document, RELEASE, strict=True)
        return
    kind: Any = getattr(operator, document["kind"])
    known = kind.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    # The models, made from the operator's own CRDs, leave out what they do not know.
    assert known == document


def of_kind(kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (one for one in OBJECTS if one["kind"] == kind and (not name or one["metadata"]["name"] == name))
    return found


def labelled(document: dict[str, Any]) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def pods() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each workload's template of a pod, and its only container."""
    templates = [one["spec"]["template"] for one in OBJECTS if one["kind"] in {"DaemonSet", "Deployment"}]
    return [(one, one["spec"]["containers"][0]) for one in templates if len(one["spec"]["containers"]) == 1]


each_object = pytest.mark.parametrize("document", OBJECTS, ids=labelled)
each_pod = pytest.mark.parametrize(("pod", "container"), pods(), ids=["agent", "example"])


@each_object
def test_the_schema_holds(document: dict[str, Any]) -> None:
    validate(document)


def broken(document: dict[str, Any], *path: Any, **more: Any) -> dict[str, Any]:
    found = inner = copy.deepcopy(document)
    for step in path:
        inner = inner[step]
    inner.update(more)
    return found


def test_a_wrong_key_or_value_would_be_found() -> None:
    daemon_set, monitor = of_kind("DaemonSet"), of_kind("PodMonitor")
    (rule,) = yaml.safe_load_all(
        rule_documents({"a.yml": SAMPLE_RULES["alerts.yml"]}, namespace="n")["prometheusrule.yml"]
    )
    for wrong in (
        broken(daemon_set, "spec", "template", "spec", hostPid=True),
        broken(daemon_set, "spec", "template", "spec", "containers", 0, image=5),
        broken(monitor, "spec", "podMetricsEndpoints", 0, relabeling=[]),
        broken(monitor, "spec", "podMetricsEndpoints", 0, "relabelings", 0, targetlabel="job"),
        broken(monitor, "spec", "podMetricsEndpoints", 0, interval=[15]),
        broken(rule, "spec", "groups", 0, "rules", 0, alerts="A"),
        broken(rule, "spec", "groups", 0, "rules", 0, labels=["severity"]),
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011 - three libraries, three ways to say it
            validate(wrong)


def test_all_files_are_applied_and_no_other() -> None:
    there = {file.name for file in FOLDER.glob("*.yml")} - {"kustomization.yml"}
    named = set(KUSTOMIZATION["resources"])
    assert there == named


def test_images_are_those_of_this_version() -> None:
    images = {one["name"]: one["newTag"] for one in KUSTOMIZATION["images"]}
    assert images == {container["image"]: __version__ for _, container in pods()}
    for image in images:
        assert (ROOT / "deploy" / "containers" / f"{image.removeprefix('ecolyzer-')}.Dockerfile").is_file()


@each_object
def test_everything_is_in_one_namespace(document: dict[str, Any]) -> None:
    if document["kind"] == "Namespace":
        assert document["metadata"]["name"] == "ecolyzer"
    else:
        assert document["metadata"]["namespace"] == "ecolyzer"


@each_pod
def test_selectors_find_their_pods(pod: dict[str, Any], container: dict[str, Any]) -> None:
    owner = next(one for one in OBJECTS if one.get("spec", {}).get("template") is pod)
    assert owner["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_the_service_and_the_monitor_find_pods_and_ports() -> None:
    (agent, agents_container), (example, examples_container) = pods()
    service, monitor = of_kind("Service"), of_kind("PodMonitor")
    assert service["spec"]["selector"].items() <= example["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= agent["metadata"]["labels"].items()
    assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports(examples_container)
    assert {one["port"] for one in monitor["spec"]["podMetricsEndpoints"]} <= ports(agents_container)


def ports(container: dict[str, Any]) -> set[str]:
    return {one["name"] for one in container["ports"]}


@each_pod
def test_mounts_have_volumes_and_probes_have_ports(pod: dict[str, Any], container: dict[str, Any]) -> None:
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["spec"]["volumes"]}
    probes = [value for key, value in container.items() if key.endswith("Probe")]
    assert len(probes) >= 2
    assert {one["httpGet"]["port"] for one in probes} <= ports(container)


@each_pod
def test_nothing_may_do_more_than_it_must(pod: dict[str, Any], container: dict[str, Any]) -> None:
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"]["drop"] == ["ALL"]
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"]


def test_only_the_agent_has_powers_and_only_those_it_needs() -> None:
    (agent, agents_container), (example, examples_container) = pods()
    assert agents_container["securityContext"]["capabilities"]["add"] == ["DAC_READ_SEARCH"]
    assert agent["spec"]["hostPID"] is True
    writable = {one["name"] for one in agents_container["volumeMounts"] if not one.get("readOnly")}
    paths = {
        one["hostPath"]["path"] for one in agent["spec"]["volumes"] if "hostPath" in one and one["name"] in writable
    }
    assert paths == {"/run/ecolyzer"}
    assert "add" not in examples_container["securityContext"]["capabilities"]
    assert example["spec"]["securityContext"]["runAsNonRoot"] is True
    assert {"hostPID", "hostNetwork"}.isdisjoint(example["spec"])


def test_both_speak_of_one_socket() -> None:
    (agent, agents_container), (example, examples_container) = pods()
    environment = {one["name"]: one.get("value") for one in examples_container["env"]}
    assert environment["ECOLYZER_AGENT_SOCKET"] == AGENT_SOCKET
    for pod, container in ((agent, agents_container), (example, examples_container)):
        mount = next(one for one in container["volumeMounts"] if one["mountPath"] == str(Path(AGENT_SOCKET).parent))
        volume = next(one for one in pod["spec"]["volumes"] if one["name"] == mount["name"])
        assert volume["hostPath"]["path"] == mount["mountPath"]
    group = agents_container["securityContext"]["runAsGroup"]
    assert example["spec"]["securityContext"]["supplementalGroups"] == [group]
    assert f"ARG GROUP_ID={group}" in (ROOT / "deploy/containers/agent.Dockerfile").read_text()


def test_the_agent_reads_the_sysfs_that_is_mounted() -> None:
    ((agent, container), _) = pods()
    (root,) = [one.partition("=")[2] for one in container["args"] if one.startswith("--sysfs=")]
    mount = next(one for one in container["volumeMounts"] if one["mountPath"] == root)
    volume = next(one for one in agent["spec"]["volumes"] if one["name"] == mount["name"])
    assert volume["hostPath"]["path"] == "/sys"
    assert mount["readOnly"] is True


def test_series_are_called_as_in_the_compose_stack() -> None:
    (endpoint,) = of_kind("PodMonitor")["spec"]["podMetricsEndpoints"]
    rules = {one.get("targetLabel", one.get("action")): one for one in endpoint["relabelings"]}
    jobs = {one["job_name"] for one in read_yaml("grafana/prometheus/prometheus.yml")["scrape_configs"]}
    assert rules["job"]["replacement"] in jobs
    assert rules["instance"]["sourceLabels"] == ["__meta_kubernetes_pod_node_name"]
    # A metric of ours has a label of this name; the pod's would rename it to exported_container.
    assert re.fullmatch(rules["labeldrop"]["regex"], "container")


def test_generated_objects_are_valid_and_hold_the_files_as_they_are() -> None:
    files = documents(SAMPLE_DASHBOARDS, SAMPLE_RULES, namespace="elsewhere")
    assert set(files) == {"prometheusrule.yml", "dashboards.yml"}
    found = [one for text in files.values() for one in yaml.safe_load_all(text)]
    for one in found:
        validate(one)
        assert one["metadata"]["namespace"] == "elsewhere"
    rules = [one["spec"] for one in found if one["kind"] == "PrometheusRule"]
    assert rules == [yaml.safe_load(SAMPLE_RULES[name]) for name in sorted(SAMPLE_RULES)]
    dashboards = [one for one in found if one["kind"] == "ConfigMap"]
    texts = {name: text for one in dashboards for name, text in one["data"].items()}
    assert texts == {name: text.rstrip("\n") + "\n" for name, text in SAMPLE_DASHBOARDS.items()}
    for one in dashboards:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Ecolyzer"}
    assert [one["metadata"]["name"] for one in found] == [
        "ecolyzer-alerts",
        "ecolyzer-recording",
        "ecolyzer-dashboard-fleet",
        "ecolyzer-dashboard-runbooks",
    ]


def test_a_dashboard_too_large_for_a_config_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"huge.json: .* do not fit"):
        dashboard_documents({"huge.json": "x" * (MAX_BYTES + 1)}, namespace="n")


def test_our_own_rules_and_dashboards_can_be_wrapped() -> None:
    rules = {one.name: one.read_text() for one in (ROOT / "grafana/prometheus/rules").glob("*.yml")}
    dashboards = {one.name: one.read_text() for one in (ROOT / "grafana/dashboards").glob("*.json")}
    found = [
        one
        for text in documents(dashboards, rules, namespace="ecolyzer").values()
        for one in yaml.safe_load_all(text)
        if one is not None
    ]
    for one in found:
        validate(one)
    assert len(found) == len(rules) + len(dashboards)
