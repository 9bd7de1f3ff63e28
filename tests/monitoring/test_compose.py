"""docker-compose.yml and what it mounts. No engine is needed, and none starts it: docs/monitoring.md says what that
leaves untested.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .tools import ROOT, read_yaml, tool

COMPOSE = read_yaml("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: Its health check is in example.Dockerfile.
CHECKED_BY_IMAGE = {"service"}
#: One serves nothing, the other's image has nothing but the program.
NOT_CHECKED = {"traffic", "collector"}
MONTH_DAYS = 30

each_service = pytest.mark.parametrize("name", SERVICES)


def mounts(name: str) -> Iterator[tuple[Path, str, str]]:
    """Source, target and mode of what a service mounts from the repository."""
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            yield ROOT / source, target, mode[0] if mode else "rw"


def host_of(address: str) -> str:
    return re.sub(r"^https?://", "", address).partition(":")[0].partition("/")[0]


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_the_schema_of_compose_holds() -> None:
    found = check_schema(ROOT / "docker-compose.yml")
    assert found.returncode == 0, found.stdout


def test_the_schema_would_find_a_wrong_key(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(
        (ROOT / "docker-compose.yml").read_text().replace("ports:", "portz:")
    )
    assert "portz" in check_schema(tmp_path / "docker-compose.yml").stdout


@each_service
def test_ports_are_for_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert isinstance(port, str)
        assert port.startswith("127.0.0.1:")


@each_service
def test_images_are_pinned_and_can_be_changed(name: str) -> None:
    repository, _, tag = SERVICES[name]["image"].partition(":")
    assert "$" not in repository
    assert re.fullmatch(r"\$\{[A-Z]+_TAG:-(v?\d+\.\d+\.\d+|local)\}", tag)
    assert ("build" in SERVICES[name]) == tag.endswith(":-local}")


@each_service
def test_nothing_may_do_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["user"].partition(":")[0] not in {"", "0", "root"}
    assert {"network_mode", "pid", "ipc", "devices"}.isdisjoint(service)
    assert "docker.sock" not in str(service)


@each_service
def test_nothing_can_fill_the_machine(name: str) -> None:
    assert SERVICES[name]["mem_limit"]
    assert SERVICES[name]["pids_limit"]
    assert set(SERVICES[name]["logging"]["options"]) == {"max-size", "max-file"}


@each_service
def test_health_is_checked_or_it_is_said_why_not(name: str) -> None:
    check = SERVICES[name].get("healthcheck")
    assert (check is None) == (name in CHECKED_BY_IMAGE)
    assert (check == {"disable": True}) == (name in NOT_CHECKED)


@each_service
def test_only_what_has_a_health_check_is_waited_for_by_it(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] == "service_started" or other not in NOT_CHECKED


@each_service
def test_a_service_needs_none_of_a_profile_that_is_off(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        same = SERVICES[other].get("profiles") == SERVICES[name].get("profiles")
        assert same or "profiles" not in SERVICES[other] or how.get("required") is False


def test_traces_are_a_profile() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"collector": ["traces"], "tempo": ["traces"]}


def test_what_is_mounted_is_in_the_repository_and_cannot_be_changed_from_inside() -> None:
    found = {name: list(mounts(name)) for name in SERVICES}
    for name, of_service in found.items():
        for source, _, mode in of_service:
            assert source.is_dir(), f"{name}: {source} is not there"
            assert source.is_relative_to(ROOT / "grafana")
            assert mode == "ro"
    for name in ("prometheus", "alertmanager", "grafana", "collector", "tempo"):
        assert found[name]


@pytest.mark.parametrize("name", ["prometheus", "alertmanager", "collector", "tempo"])
def test_each_program_is_told_of_the_file_that_is_mounted(name: str) -> None:
    told = next(one for one in SERVICES[name]["command"] if "config" in one).partition("=")[2]
    ((source, target, _),) = mounts(name)
    assert (source / Path(told).relative_to(target)).is_file()


def test_volumes_are_named() -> None:
    used = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert used == set(COMPOSE["volumes"])


def test_nobody_gets_into_grafana_without_a_password_that_the_user_chose() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environment["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_admin_password"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environment
    (name,) = SERVICES["grafana"]["secrets"]
    path = re.fullmatch(r"\$\{\w+:-\./(secrets/)\w+\}", COMPOSE["secrets"][name]["file"])
    assert path
    assert path[1] in (ROOT / ".gitignore").read_text().splitlines()


def test_grafana_calls_nobody() -> None:
    environment = SERVICES["grafana"]["environment"]
    for name in (
        "ANALYTICS_REPORTING_ENABLED",
        "ANALYTICS_CHECK_FOR_UPDATES",
        "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
        "NEWS_NEWS_FEED_ENABLED",
        "PLUGINS_PREINSTALL_AUTO_UPDATE",
    ):
        assert environment[f"GF_{name}"] == "false"


def test_prometheus_keeps_exemplars_and_enough_history_for_the_rules() -> None:
    command = SERVICES["prometheus"]["command"]
    assert "--enable-feature=exemplar-storage" in command
    assert not any("web.enable" in flag for flag in command)
    days = next(flag for flag in command if "retention.time" in flag).partition("=")[2]
    assert int(days.removesuffix("d")) > MONTH_DAYS


def test_the_service_is_started_by_the_launcher_as_pid_1() -> None:
    service = SERVICES["service"]
    assert service["command"][:2] == ["sh", "-c"]
    assert service["command"][2].endswith("exec ecolyzer-instrument python examples/serve.py")
    assert "init" not in service
    environment = service["environment"]
    assert environment["ECOLYZER_HOST"] == "0.0.0.0"
    # Scraped and sent would be counted twice.
    assert environment["OTEL_METRICS_EXPORTER"] == "none"
    assert host_of(environment["OTEL_EXPORTER_OTLP_ENDPOINT"]) == "collector"


def test_scripts_that_are_started_are_there() -> None:
    for service in SERVICES.values():
        for script in re.findall(r"examples/\w+\.py", str(service.get("command", ""))):
            assert (ROOT / script).is_file()


def test_every_address_is_a_service() -> None:
    prometheus = read_yaml("grafana/prometheus/prometheus.yml")
    targets = [
        one for job in prometheus["scrape_configs"] for part in job["static_configs"] for one in part["targets"]
    ]
    managers = prometheus["alerting"]["alertmanagers"]
    targets += [one for manager in managers for part in manager["static_configs"] for one in part["targets"]]
    sources = read_yaml("grafana/provisioning/datasources/ecolyzer.yml")["datasources"]
    collector = read_yaml("grafana/collector/collector.yml")
    addresses = [*targets, *(one["url"] for one in sources), collector["exporters"]["otlp_grpc"]["endpoint"]]
    assert {host_of(one) for one in addresses} <= set(SERVICES)
    assert "service:9465" in targets


def test_the_tool_finds_no_fault_in_prometheus_files() -> None:
    path = str(ROOT / "grafana" / "prometheus" / "prometheus.yml")
    subprocess.run([tool("promtool"), "check", "config", path], check=True, capture_output=True, timeout=240)


def test_spans_go_from_the_collector_to_tempo() -> None:
    collector, tempo = read_yaml("grafana/collector/collector.yml"), read_yaml("grafana/tempo/tempo.yml")
    assert list(collector["service"]["pipelines"]) == ["traces"]
    pipeline = collector["service"]["pipelines"]["traces"]
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) == set(collector[part])
    # The first, or memory is used before it is limited.
    assert pipeline["processors"][0] == "memory_limiter"
    port = collector["exporters"]["otlp_grpc"]["endpoint"].rpartition(":")[2]
    assert tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == f"0.0.0.0:{port}"
    received = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert SERVICES["service"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(f":{received}")
    # What Tempo 3 refuses to start with.
    assert {"ingester", "compactor", "ingester_client", "metrics_generator_client"}.isdisjoint(tempo)


def test_data_sources_link_both_ways() -> None:
    text = (ROOT / "grafana/provisioning/datasources/ecolyzer.yml").read_text()
    sources = {one["uid"]: one for one in yaml.safe_load(text)["datasources"]}
    assert set(sources) == {"prometheus", "alertmanager", "tempo"}
    assert [uid for uid, one in sources.items() if one.get("isDefault")] == ["prometheus"]
    (exemplars,) = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert (exemplars["name"], exemplars["datasourceUid"]) == ("trace_id", "tempo")
    back = sources["tempo"]["jsonData"]["tracesToMetrics"]
    assert back["datasourceUid"] == "prometheus"
    # Grafana replaces $name by variables of its environment, mostly by nothing.
    assert all("$$__tags" in query["query"] for query in back["queries"])
    scrape = read_yaml("grafana/prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert sources["prometheus"]["jsonData"]["timeInterval"] == scrape


def test_links_from_a_span_ask_for_metrics_and_labels_that_there_are() -> None:
    sources = read_yaml("grafana/provisioning/datasources/ecolyzer.yml")["datasources"]
    back = next(one for one in sources if one["uid"] == "tempo")["jsonData"]["tracesToMetrics"]
    documented = (ROOT / "docs" / "metrics.md").read_text()
    for query in back["queries"]:
        for metric in re.findall(r"ecolyzer_\w+", query["query"]):
            assert f"`{metric.removesuffix('_bucket')}`" in documented
    assert {tag["value"] for tag in back["tags"]} == {"service", "model"}


@pytest.mark.parametrize("number", range(4))
def test_queries_from_a_span_can_be_parsed(number: int, tmp_path: Path) -> None:
    sources = read_yaml("grafana/provisioning/datasources/ecolyzer.yml")["datasources"]
    query = next(one for one in sources if one["uid"] == "tempo")["jsonData"]["tracesToMetrics"]["queries"][number]
    rule = {"record": "a:b:c", "expr": query["query"].replace("$$__tags", 'service="a",model="b"')}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": [rule]}]}))
    command = [tool("promtool"), "check", "rules", str(tmp_path / "rules.yml")]
    assert "SUCCESS" in subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


def test_dashboards_come_from_where_they_are_mounted() -> None:
    (provider,) = read_yaml("grafana/provisioning/dashboards/ecolyzer.yml")["providers"]
    assert provider["options"]["path"] in {target for _, target, _ in mounts("grafana")}
    assert provider["folder"] == "Ecolyzer"
    assert provider["disableDeletion"] is True
    assert provider["allowUiUpdates"] is False


def test_the_image_is_built_without_root_and_from_what_the_context_has() -> None:
    text = (ROOT / "deploy/containers/example.Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["python:3.12-slim", "python:3.12-slim"]
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    # The same release as in the Makefile.
    (release,) = re.findall(r"silero-vad==\S+", text)
    assert release in (ROOT / "Makefile").read_text()
