"""Where am I: metadata services as their providers document them, and everything that may listen there instead.

The services are real HTTP servers on loopback; the firmware is a sysfs tree in a folder.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ecolyzer_otel.errors import ConfigError
from ecolyzer_otel.impact import resolve_place
from ecolyzer_otel.impact.cloud import PROVIDERS, Found, find_cloud_place

NOTHING = Found(None, "", None)
#: For answers that are to come: a slow machine must not turn them into silence.
PATIENT = 60.0
#: For answers that must not come, and how long the whole may take; what hangs would take 30 s.
SHORT, SLACK, HANG = 0.3, 30.0, 90.0

AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
FIRMWARE = {
    "aws": {"sys_vendor": "Amazon EC2", "product_name": "g5.xlarge", "bios_vendor": "Amazon EC2"},
    "gcp": {"sys_vendor": "Google", "product_name": "Google Compute Engine"},
    "azure": {
        "sys_vendor": "Microsoft Corporation",
        "product_name": "Virtual Machine",
        "chassis_asset_tag": AZURE_TAG,
    },
    "scaleway": {"sys_vendor": "Scaleway", "product_name": "SCW-GPU-3070-S"},
    "ovhcloud": {"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova"},
}


class Service(BaseHTTPRequestHandler):
    """What a test's subclass answers: ``answer`` gives (status, headers, body)."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, dict[str, str]]]

    def __init_subclass__(cls) -> None:
        cls.asked = []

    def answer(self) -> tuple[int, dict[str, str], str | bytes]:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.asked.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        status, headers, body = self.answer()
        data = body.encode() if isinstance(body, str) else body
        with suppress(OSError):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


def aws(region: str = "eu-central-1", *, version_1_only: bool = False) -> type[Service]:
    class Aws(Service):
        def answer(self):
            if self.path == "/latest/api/token":
                seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                if version_1_only:
                    return 404, {}, ""
                if self.command != "PUT" or not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
                    return 400, {}, ""
                return 200, {}, "AQAEALz=="
            if self.path != "/latest/meta-data/placement/region":
                return 404, {}, ""
            if not version_1_only and self.headers.get("X-aws-ec2-metadata-token") != "AQAEALz==":
                return 401, {}, ""
            return 200, {"Content-Type": "text/plain"}, region

    return Aws


def gcp(zone: str = "projects/123456/zones/europe-west3-b", *, flavor: bool = True) -> type[Service]:
    class Gcp(Service):
        def answer(self):
            if self.path != "/computeMetadata/v1/instance/zone":
                return 404, {}, ""
            if self.headers.get("Metadata-Flavor") != "Google":
                return 403, {}, ""
            return 200, {"Metadata-Flavor": "Google"} if flavor else {}, zone

    return Gcp


def azure(location: str = "germanywestcentral") -> type[Service]:
    class Azure(Service):
        def answer(self):
            if self.headers.get("Metadata") != "true" or "X-Forwarded-For" in self.headers:
                return 400, {}, ""
            if self.path != "/metadata/instance/compute/location?api-version=2021-02-01&format=text":
                return 404, {}, ""
            return 200, {}, location

    return Azure


def openstack(zone: str = "eu-west-par-a", name_server: str = "213.186.33.99") -> type[Service]:
    class OpenStack(Service):
        def answer(self):
            if self.path == "/openstack/latest/meta_data.json":
                return 200, {}, json.dumps({"availability_zone": zone, "name": "vm", "uuid": "84c73cad"})
            if self.path == "/openstack/latest/network_data.json":
                services = [{"type": "dns", "address": name_server}]
                return 200, {}, json.dumps({"links": [], "networks": [], "services": services})
            return 404, {}, ""

    return OpenStack


def scaleway(zone: str = "fr-par-2") -> type[Service]:
    class Scaleway(Service):
        def answer(self):
            if self.path != "/conf?format=json":
                return 404, {}, ""
            location = {"zone_id": "par2", "platform_id": "14"}
            return 200, {}, json.dumps({"id": "5f2c", "hostname": "vm", "zone": zone, "location": location})

    return Scaleway


def always(status: int, body: str | bytes, headers: dict[str, str] | None = None) -> type[Service]:
    class Always(Service):
        def answer(self):
            return status, headers or {}, body

    return Always


DOCUMENTED = {
    "aws": (aws, "aws:eu-central-1"),
    "gcp": (gcp, "gcp:europe-west3"),
    "azure": (azure, "azure:germanywestcentral"),
    "ovhcloud": (openstack, "ovhcloud:PAR"),
    "scaleway": (scaleway, "scaleway:fr-par-2"),
}


@contextmanager
def serving(handler: type[Service]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def answering(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server for what no HTTP server does: ``behave(connection, over)`` until the test is over."""
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            behave(connection, over)

    def accept() -> None:
        with suppress(OSError):
            while True:
                thread = threading.Thread(target=one, args=(listener.accept()[0],), daemon=True)
                thread.start()
                threads.append(thread)

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [acceptor, *threads]:
            thread.join(5)


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(HANG)


def dripping(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.05):
        connection.sendall(b"X")


def dripping_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b"e")


def not_http(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


def hanging_up(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(10)


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"a" * 65536)


@pytest.fixture(scope="session")
def nowhere() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def find(nowhere, tmp_path):
    """find_cloud_place where nothing is, but for what the test says."""

    def run(which: str, *, firmware=None, hypervisor="", timeout=PATIENT, environ=None, **addresses: str) -> Found:
        folder = tmp_path / "class" / "dmi" / "id"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (firmware or {}).items():
            (folder / name).write_text(f"{text}\n", encoding="utf-8")
        if hypervisor:
            (tmp_path / "hypervisor").mkdir()
            (tmp_path / "hypervisor" / "uuid").write_text(f"{hypervisor}\n", encoding="utf-8")
        return find_cloud_place(
            which,
            sysfs=str(tmp_path),
            environ=environ or {},
            timeout=timeout,
            addresses={**dict.fromkeys(PROVIDERS, nowhere), **addresses},
        )

    return run


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("which", ["auto", "on", "named"])
def test_each_service_tells_its_region(find, provider, which):
    service, place = DOCUMENTED[provider]
    firmware = FIRMWARE[provider] if which == "auto" else None
    with serving(service()) as address:
        found = find(provider if which == "named" else which, firmware=firmware, **{provider: address})
    assert found == Found(place, f"{provider} metadata", None)
    assert resolve_place(found.place).region == place


@pytest.mark.parametrize("provider", PROVIDERS)
def test_nobody_is_asked_when_off_or_when_the_firmware_names_no_cloud(find, provider):
    handler = DOCUMENTED[provider][0]()
    with serving(handler) as address:
        assert find("off", firmware=FIRMWARE[provider], **{provider: address}) == NOTHING
    with serving(handler) as address:
        laptop = {
            "sys_vendor": "LENOVO",
            "product_name": "21HM",
            "product_version": "ThinkPad X1",
            "bios_vendor": "",
        }
        none_of_it = dict.fromkeys(FIRMWARE[provider], "")
        assert find("auto", firmware={**none_of_it, **laptop}, **{provider: address}) == NOTHING
    assert handler.asked == []


def test_without_firmware_tables_auto_finds_nothing(tmp_path):
    assert find_cloud_place("auto", sysfs=str(tmp_path), environ={}) == NOTHING


@pytest.mark.parametrize(
    ("firmware", "hypervisor", "provider"),
    [
        ({"sys_vendor": "Amazon EC2", "product_name": "m7g.metal"}, "", "aws"),
        ({"sys_vendor": "Xen", "bios_version": "4.11.amazon"}, "", "aws"),
        ({"sys_vendor": "Xen", "product_uuid": "EC2F58AF-2DAD-C57E-88C0-A81CB6084290"}, "", "aws"),
        ({"sys_vendor": "Xen", "product_uuid": "45E12AEC-DCD1-B213-94ED-012345ABCDEF"}, "", "aws"),
        ({"sys_vendor": "Xen"}, "ec2b4c4f-5555-4444-3333-222211110000", "aws"),
        ({"sys_vendor": "Xen"}, "0a2b4c4f-5555-4444-3333-222211110000", None),
        ({"sys_vendor": "Dell Inc.", "product_uuid": "ec2f58af-2dad-c57e-88c0-a81cb6084290"}, "", None),
        ({"sys_vendor": "Google", "product_name": "Google"}, "", "gcp"),
        ({"sys_vendor": "Google", "product_name": "Eve", "bios_vendor": "coreboot"}, "", None),  # a Chromebook
        ({"sys_vendor": "American Megatrends Inc.", "chassis_asset_tag": AZURE_TAG}, "", "azure"),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}, "", None),  # Hyper-V
        ({"sys_vendor": "OVH", "product_name": "ADVANCE-2"}, "", "ovhcloud"),
    ],
)
def test_what_the_firmware_says(find, firmware, hypervisor, provider):
    # Nobody answers, so that a provider known for certain is known by its average, with the reason.
    found = find("auto", firmware=firmware, hypervisor=hypervisor)
    if provider is None:
        assert found == NOTHING
    else:
        assert (found.place, found.told_by) == (f"{provider}:*", "dmi")
        assert found.problem.startswith(f"cloud_metadata: the metadata service of {provider} did not tell")
        assert "set --zone or ECOLYZER_ZONE, such as " in found.problem
        assert resolve_place(found.place).zone == "WORLD"


def test_aws_is_asked_by_version_2_alone(find):
    handler = aws()
    with serving(handler) as address:
        find("aws", aws=address)
    assert [(method, path) for method, path, _ in handler.asked] == [
        ("PUT", "/latest/api/token"),
        ("GET", "/latest/meta-data/placement/region"),
    ]
    old = aws(version_1_only=True)
    with serving(old) as address:
        found = find("auto", firmware=FIRMWARE["aws"], aws=address)
    assert (found.place, found.told_by) == ("aws:*", "dmi")
    assert "hop limit" in found.problem
    assert [path for _, path, _ in old.asked] == ["/latest/api/token"]


def test_aws_metadata_can_be_forbidden(find):
    handler = aws()
    with serving(handler) as address:
        found = find("auto", firmware=FIRMWARE["aws"], environ={"AWS_EC2_METADATA_DISABLED": "True"}, aws=address)
    assert handler.asked == []
    assert (found.place, found.told_by) == ("aws:*", "dmi")
    assert "AWS_EC2_METADATA_DISABLED" in found.problem


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": "eu-west-1"}, "aws:eu-west-1"),
        ({"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12", "AWS_DEFAULT_REGION": "sa-east-1"}, "aws:sa-east-1"),
        ({"AWS_REGION": "eu-west-1"}, None),
        ({"AWS_EXECUTION_ENV": "AWS_ECS_EXTERNAL", "AWS_REGION": "eu-west-1"}, None),
        ({"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12", "AWS_SAM_LOCAL": "true", "AWS_REGION": "eu-west-1"}, None),
        ({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": "not a region"}, None),
    ],
)
def test_a_container_that_aws_runs_is_told_by_its_environment(find, environ, place):
    assert find("auto", environ=environ) == (Found(place, "aws environment", None) if place else NOTHING)
    assert find("off", environ=environ) == NOTHING


@pytest.mark.parametrize(
    ("provider", "service", "named"),
    [
        ("aws", aws("xx-nowhere-9"), "'xx-nowhere-9'"),
        ("gcp", gcp("projects/1/zones/moon-west9-a"), "'moon-west9'"),
        ("azure", azure("moonwest"), "'moonwest'"),
        ("ovhcloud", openstack("eu-south-mil-a"), "'eu-south-mil-a'"),
        ("scaleway", scaleway("xx-abc-1"), "'xx-abc-1'"),
    ],
)
def test_a_region_that_no_table_knows_is_the_average_and_is_said(find, provider, service, named):
    with serving(service) as address:
        found = find("auto", firmware=FIRMWARE[provider], **{provider: address})
    assert (found.place, found.told_by) == (f"{provider}:*", f"{provider} metadata")
    assert f"region {named} of {provider} is not in the table" in found.problem
    assert "set --zone or ECOLYZER_ZONE, such as " in found.problem
    assert "\n" not in found.problem


@pytest.mark.parametrize(
    ("zone", "place"), [("eu-west-par-c", "ovhcloud:PAR"), ("US-EAST-VA-1", "ovhcloud:VIN"), ("nova", None)]
)
def test_ovhcloud_names_its_region_where_it_has_zones(find, zone, place):
    with serving(openstack(zone)) as address:
        found = find("auto", firmware=FIRMWARE["ovhcloud"], ovhcloud=address)
    if place:
        assert found == Found(place, "ovhcloud metadata", None)
    else:
        assert found.place == "ovhcloud:*"
        assert "names no region" in found.problem
        assert "set --zone or ECOLYZER_ZONE, such as ovhcloud:GRA11" in found.problem


def test_another_openstack_is_not_ovhcloud(find):
    with serving(openstack("nova", name_server="10.0.0.2")) as address:
        assert find("auto", firmware=FIRMWARE["ovhcloud"], ovhcloud=address) == NOTHING


PORTAL = "<html><body>Please log in</body></html>"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "service",
    [
        always(404, "not found"),
        always(500, "eu-central-1"),
        always(200, PORTAL, {"Content-Type": "text/html"}),
        always(200, ""),
        always(200, b"\xff\xfe\x00"),
        always(200, "[1, 2]"),
        always(200, '{"availability_zone": {}, "services": 3, "zone": []}'),
        always(200, "x" * 100_000),
        always(200, '{"zone": "fr-par-1", "pad": "' + "x" * 100_000 + '"}'),
        always(200, "[" * 60_000),
        always(200, "eu\r\nHost: evil"),
    ],
    ids=["404", "500", "portal", "empty", "binary", "list", "types", "huge", "huge-json", "deep", "lines"],
)
def test_what_is_no_answer_is_none(find, provider, service):
    with serving(service) as address:
        found = find(provider, **{provider: address})
    assert (found.place, found.told_by) == (None, "")
    assert found.problem.startswith(f"cloud_metadata: the metadata service of {provider} did not tell")
    assert "set --zone or ECOLYZER_ZONE, such as " in found.problem


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_redirect_is_not_followed(find, provider):
    elsewhere = DOCUMENTED[provider][0]()
    with serving(elsewhere) as target:
        headers = {"Location": f"http://{target}/latest/api/token"}
        with serving(always(302, "", headers)) as address:
            assert find(provider, **{provider: address}).place is None
    assert elsewhere.asked == []


def test_google_has_to_sign_its_answer(find):
    with serving(gcp(flavor=False)) as address:
        assert find("gcp", gcp=address).place is None


def test_among_all_a_name_alone_is_not_believed(find):
    # Something on the network says "welcome" to everybody, which might be a new Azure region.
    with serving(always(200, "welcome")) as address:
        found = find("on", **dict.fromkeys(PROVIDERS, address))
    assert found.place is None
    assert found.problem.startswith("cloud_metadata: the metadata service of any cloud did not tell")
    assert found.problem.endswith("or set --cloud-metadata off")


def test_no_proxy_is_asked(find, monkeypatch):
    proxy, service = always(200, "eu-west-1"), azure()
    with serving(proxy) as proxy_address, serving(service) as address:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy_address}")
        assert find("azure", azure=address).place == "azure:germanywestcentral"
    assert proxy.asked == []


@pytest.mark.parametrize("behave", [silent, dripping, dripping_body, not_http, hanging_up, endless])
@pytest.mark.parametrize("which", ["on", "auto"])
def test_the_whole_is_over_in_time(find, behave, which):
    before = threading.active_count()
    with answering(behave) as address:
        started = time.monotonic()
        found = find(which, firmware=FIRMWARE["aws"], timeout=SHORT, **dict.fromkeys(PROVIDERS, address))
        took = time.monotonic() - started
    assert took < SLACK
    assert (found.place, found.told_by) == ("aws:*", "dmi")
    until = time.monotonic() + SLACK
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_one_that_answers_is_not_kept_waiting_by_the_silent(find):
    with answering(silent) as mute, serving(scaleway()) as address:
        started = time.monotonic()
        found = find("on", timeout=HANG, **{**dict.fromkeys(PROVIDERS, mute), "scaleway": address})
        assert time.monotonic() - started < SLACK
    assert found.place == "scaleway:fr-par-2"


def test_a_host_that_swallows_packets_ends_in_time(find):
    # A backlog that is full drops what comes: connecting neither succeeds nor fails.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = f"127.0.0.1:{full.getsockname()[1]}"
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(full.getsockname())
        started = time.monotonic()
        assert find("aws", timeout=SHORT, aws=address).place is None
        assert time.monotonic() - started < SLACK
        for one in waiting:
            one.close()


def test_nothing_is_left_hanging_when_the_interpreter_ends():
    code = (
        "import sys; from ecolyzer_otel.impact.cloud import PROVIDERS, find_cloud_place\n"
        "find_cloud_place('on', sysfs='/nowhere', environ={}, timeout=0.3, "
        "addresses=dict.fromkeys(PROVIDERS, sys.argv[1]))"
    )
    with answering(silent) as address:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=HANG - 5, check=False
        )
        assert time.monotonic() - started < HANG - 10
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_wrong_option_is_refused():
    with pytest.raises(ConfigError, match=r"^cloud_metadata: 'azur' cannot be used"):
        find_cloud_place("azur")


def test_the_environment_is_the_process_s_own_by_default(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EXECUTION_ENV", "AWS_ECS_EC2")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert find_cloud_place("auto", sysfs=str(tmp_path)).place == "aws:eu-north-1"
