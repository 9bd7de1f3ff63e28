"""The node agent: one meter for all services, with a socket of its own, under systemd or by hand."""

from __future__ import annotations

import grp
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from support.environment import clean
from support.locks import exclusive
from support.ports import free_port
from support.processes import Program
from support.waiting import AGES, PATIENCE, until

from .conftest import BIN, SERVICE, Metrics, environment

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
DEFAULT = Path("/run/ecolyzer/agent.sock")


@pytest.fixture
def group():
    """The group ``ecolyzer``, made for the test where it is not there."""
    with exclusive("group"):
        try:
            found = grp.getgrnam("ecolyzer")
        except KeyError:
            found = None
        if found:
            yield found
            return
        if os.geteuid() != 0 or subprocess.run(["groupadd", "--system", "ecolyzer"], check=False).returncode:
            pytest.skip("no group ecolyzer, and none can be made")
        try:
            yield grp.getgrnam("ecolyzer")
        finally:
            subprocess.run(["groupdel", "ecolyzer"], check=False)


JOB = ["python", str(SERVICE / "jobs.py"), "process-spawn"]


def test_two_services_on_one_agent_keep_apart_and_no_other_meter_is_started(agent, serve):
    node = agent("--zone", "FR")
    for name in ("one", "two"):
        env = {"ECOLYZER_AGENT_SOCKET": str(node.socket), "OTEL_SERVICE_NAME": name}
        service = serve(["gunicorn", "-b", "127.0.0.1:PORT", "-w", "2", "--no-control-socket", "app:wsgi"], env=env)
        sent = service.wait_until_up() + service.load(32)
        node.settled(sent, f'service="{name}"')
        assert service.meter_lines() == []
        assert f"reports to the agent at {node.socket}" in service.output
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", service.port)) != 0, "a port of its own"
    metrics = node.metrics()
    assert metrics.settled == 66
    metrics.assert_requests_close()
    assert metrics.total("ecolyzer_host_meters") == 1
    assert metrics.total("ecolyzer_workers") >= 2
    assert metrics.total("ecolyzer_meter_cpu_seconds_total") > 0


def test_workers_are_known_by_what_the_kernel_says(agent, serve):
    node = agent("--log-level", "info")
    env = {"ECOLYZER_AGENT_SOCKET": str(node.socket), "OTEL_SERVICE_NAME": "shop"}
    service = serve(["waitress-serve", "--listen=127.0.0.1:PORT", "app:wsgi"], env=env)
    node.settled(service.wait_until_up())
    (worker,) = node.health()["workers"]
    assert (worker["pid"], worker["service"]) == (service.process.pid, "shop")
    assert f"process {service.process.pid} of service shop is connected" in node.output
    assert node.metrics().total("ecolyzer_workers", 'service="shop"', 'container=""') == 1


def test_under_plain_opentelemetry_instrument_too(agent, serve):
    node = agent()
    service = serve(JOB, front="opentelemetry-instrument", env={"ECOLYZER_AGENT_SOCKET": str(node.socket)})
    assert service.process.wait(AGES) == 0, service.output
    node.settled(40)
    assert service.meter_lines() == []


def test_the_socket_is_the_groups_and_nobody_elses(agent, group):
    node = agent()
    found = node.socket.stat()
    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_gid == group.gr_gid
    assert f"agent on {node.socket} (0660 root:ecolyzer)" in node.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_a_member_of_the_group_may_report_and_others_are_told_what_to_do(agent, group, short_path):
    short_path.chmod(0o755)
    node = agent(path=short_path / "agent.sock")
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    command = [sys.executable, "-c", code, str(node.socket)]
    member = ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", str(group.gr_gid)]
    stranger = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if subprocess.run([*member, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("another user cannot run this Python")
    assert subprocess.run([*member, *command], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*stranger, *command], capture_output=True, text=True, check=False)
    assert "PermissionError" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0 or DEFAULT.exists(), reason="the default place is not ours")
def test_the_socket_in_its_default_place_is_found(agent, serve):
    looking = {"ECOLYZER_AGENT_SOCKET": ""}  # as where nobody has set it
    made = not DEFAULT.parent.exists()
    try:
        node = agent(path=DEFAULT)
        service = serve(JOB, env=looking)
        assert service.process.wait(AGES) == 0, service.output
        node.settled(40)
        assert f"reports to the agent at {DEFAULT}" in service.output
        own = serve(
            ["python", str(SERVICE / "jobs.py"), "process-spawn", "--stay"], env={"ECOLYZER_AGENT_SOCKET": "none"}
        )
        own.settled(40)
        node.process.kill()
        node.process.wait()
        # A socket that an agent left behind is no agent.
        alone = serve(["python", str(SERVICE / "jobs.py"), "process-spawn", "--stay"], env=looking)
        alone.settled(40)
        assert "does not answer" in alone.output
    finally:
        DEFAULT.unlink(missing_ok=True)
        if made:
            DEFAULT.parent.rmdir()


def test_flags_that_are_the_agents_are_named(agent, serve):
    node = agent()
    service = serve(
        ["--zone", "FR", "python", "-c", "print('served')"], env={"ECOLYZER_AGENT_SOCKET": str(node.socket)}
    )
    assert service.process.wait(PATIENCE) == 0
    assert "served" in service.output
    assert "--zone: the agent goes by its own" in service.output


def test_a_socket_at_which_nobody_answers_is_named_and_the_service_starts(serve, tmp_path):
    env = {"ECOLYZER_AGENT_SOCKET": str(tmp_path / "nowhere.sock")}
    service = serve([*JOB, "--stay"], env=env)
    until(lambda: "workers 4" in service.output, lambda: service.output, seconds=AGES)
    said = [one for one in service.output.splitlines() if one.startswith("ecolyzer: ")]
    assert len(said) == 2
    assert "--agent-socket (ECOLYZER_AGENT_SOCKET)" in said[0]
    assert "start the agent (ecolyzer agent)" in said[0]


# Bad input.


def refusal(*options: str, **env: str) -> str:
    done = subprocess.run(
        [str(BIN / "ecolyzer"), "agent", *options], capture_output=True, text=True, timeout=PATIENCE, check=False,
        env=clean(**env),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_second_agent_is_refused_and_the_first_goes_on(agent, tmp_path):
    node = agent()
    line = refusal("--agent-socket", str(node.socket), "--port", "0")
    assert "an agent listens on" in line
    assert "--agent-socket (ECOLYZER_AGENT_SOCKET)" in line
    assert node.health()["status"] == "ok"
    assert node.socket.exists()


def test_a_port_that_is_taken_is_named(agent, tmp_path):
    node = agent()
    line = refusal("--agent-socket", str(tmp_path / "b.sock"), "--port", str(node.port))
    assert "--port (ECOLYZER_PORT)" in line
    assert not (tmp_path / "b.sock").exists()


@pytest.mark.parametrize("path", ["/proc/agent.sock", "/nowhere/at/all/agent.sock", "/tmp/" + "x" * 120])
def test_a_place_that_cannot_be_listened_on_is_named(path):
    line = refusal("--agent-socket", path, "--port", "0")
    assert "--agent-socket (ECOLYZER_AGENT_SOCKET)" in line
    assert "give a path" in line


def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path):
    (tmp_path / "agent.sock").write_text("precious")
    assert "exists and is not a socket" in refusal("--agent-socket", str(tmp_path / "agent.sock"))
    assert (tmp_path / "agent.sock").read_text() == "precious"


def test_a_bad_setting_is_named_and_refused_under_strict(tmp_path):
    line = refusal("--strict", "--pue", "0.2", "--agent-socket", str(tmp_path / "a.sock"))
    assert "--pue" in line
    assert "none' is not a path" in refusal("--agent-socket", "none")


# Life.


def test_it_ends_on_sigterm_with_everything_settled_and_its_socket_gone(agent, serve):
    node = agent()
    service = serve([*JOB], env={"ECOLYZER_AGENT_SOCKET": str(node.socket)})
    assert service.process.wait(AGES) == 0
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(PATIENCE) == 0
    assert not node.socket.exists()


def test_it_is_started_again_where_one_was_killed(agent):
    first = agent()
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    assert agent().health()["status"] == "ok"


class Notified(threading.Thread):
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def run(self) -> None:
        while text := self._socket.recv(100):
            self.heard.append(text.decode())
        self._socket.close()

    def wait_for(self, text: str, times: int = 1) -> None:
        until(lambda: self.heard.count(text) >= times, lambda: self.heard)


def test_systemd_hands_over_the_socket_and_is_told_of_its_state(agent, serve, tmp_path):
    """What systemd does for a unit of Type=notify with a socket and a watchdog, done by hand."""
    address, passed = tmp_path / "notify.sock", tmp_path / "passed.sock"
    notified = Notified(address)
    notified.start()
    code = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(8); "
        "fd = s.fileno(); os.dup2(fd, 3); os.set_inheritable(3, True); fd == 3 or os.close(fd); s.detach(); "
        "os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid()), 'WATCHDOG_PID': str(os.getpid())}; "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    env = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "400000"}
    node = agent(front=(sys.executable, "-c", code, str(passed)), env=env)
    assert f"agent on {passed} (of systemd)" in node.output
    notified.wait_for("READY=1")
    notified.wait_for("WATCHDOG=1", times=3)
    service = serve(JOB, env={"ECOLYZER_AGENT_SOCKET": str(passed)})
    assert service.process.wait(AGES) == 0
    node.settled(40)
    node.process.terminate()
    assert node.process.wait(PATIENCE) == 0
    notified.wait_for("STOPPING=1")
    assert passed.exists(), "systemd's socket is systemd's to remove"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(b"", str(address))


def test_a_supervisor_that_does_not_listen_holds_nobody_up(agent, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        node = agent(env={"NOTIFY_SOCKET": str(tmp_path / "deaf.sock"), "WATCHDOG_USEC": "20000"})
        time.sleep(1.0)
        until(lambda: node.health()["seconds_since_tick"] < 3.0, lambda: node.health())
        node.process.terminate()
        assert node.process.wait(PATIENCE) == 0


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not there")
def test_it_starts_when_the_first_service_connects(serve, tmp_path, model_file):
    path, port = tmp_path / "activated.sock", free_port()
    command = ["systemd-socket-activate", "-l", str(path), str(BIN / "ecolyzer"), "agent", "--port", str(port)]
    out = tmp_path / "activated.err"
    with out.open("wb") as file:
        process = subprocess.Popen(command, env=environment(model_file, 0) | {"ECOLYZER_PORT": ""}, stderr=file)
    try:
        until(path.exists, "it listens", Program("systemd-socket-activate", process, out))
        service = serve(JOB, env={"ECOLYZER_AGENT_SOCKET": str(path)})
        assert service.process.wait(AGES) == 0
        until(lambda: Metrics.of(port).accounted >= 40, lambda: Metrics.of(port).written)
        assert Metrics.of(port).accounted == 40, "whether settled or begun before the agent was there"
    finally:
        process.terminate()
        process.wait(PATIENCE)


# Not faster than configured (CVE-2020-8694).


def test_nobody_can_make_it_read_or_show_its_sensors_faster(agent):
    from support.peers import Peer

    from ecolyzer_otel.wire.protocol import Flush

    node = agent("--sampling-period", "0.5", "--sensors", "modelled")
    peer = Peer(str(node.socket))
    peer.hello("greedy")
    seen, pages, stamps = set(), set(), set()
    end = time.monotonic() + 4
    number = 0
    while time.monotonic() < end:
        number += 1
        peer.say(peer.batch(peer.done(1)), Flush(number))
        metrics = node.metrics()
        seen.add(metrics.total("ecolyzer_device_energy_joules_total"))
        stamps.add(metrics.total("ecolyzer_sensor_last_sample_timestamp_seconds"))
        pages.add(tuple(metrics.written.values()))
        time.sleep(0.01)
    peer.close()
    assert number > 50
    assert len(stamps) <= 10, "4 s at 0.5 s, and one more at each end"
    assert len(seen) <= 10


# Deployment files.


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there")
def test_the_units_are_valid_and_hardened():
    units = [str(UNITS / name) for name in ("ecolyzer-agent.service", "ecolyzer-agent.socket")]
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    ours = [line for line in verified.stderr.splitlines() if "ecolyzer" in line]
    assert (verified.returncode, ours) == (0, [])
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", units[0]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout
    assert re.search(r"Overall exposure level .*: [01]\.\d OK", judged.stdout)


def test_the_container_recipe_copies_all_that_the_build_needs(tmp_path):
    """Its COPY lines are followed by hand, without a container engine, and the package is built from that."""
    recipe = (UNITS.parent / "containers" / "agent.Dockerfile").read_text()
    root, place = UNITS.parents[1], tmp_path / "src"
    place.mkdir()
    for *sources, _ in map(str.split, re.findall(r"^COPY (?!--)(.*)$", recipe, re.MULTILINE)):
        for source in sources:
            if (root / source).is_dir():
                shutil.copytree(root / source, place / source)
            else:
                shutil.copy(root / source, place)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), "."]
    built = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=AGES)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    for name in ("ecolyzer_otel/boot/agent.py", "ecolyzer_otel/meter/meter.py", "ecolyzer_torch/__init__.py"):
        assert name in names
    assert "USER ecolyzer" in recipe
    assert 'ENTRYPOINT ["ecolyzer", "agent"]' in recipe


def test_the_service_may_do_one_thing_that_users_may_not():
    unit = (UNITS / "ecolyzer-agent.service").read_text()
    assert re.findall(r"^(?:Ambient|.*Bounding).*=(.*)$", unit, re.MULTILINE) == ["CAP_DAC_READ_SEARCH"] * 2
    door = (UNITS / "ecolyzer-agent.socket").read_text()
    for setting in (
        "ListenStream=/run/ecolyzer/agent.sock",
        "SocketMode=0660",
        "SocketGroup=ecolyzer",
        "SocketUser=root",
    ):
        assert setting in door


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a capability")
def test_one_capability_is_enough_for_rapl(agent, short_path):
    zone = short_path / "sys" / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1000")):
        (zone / name).write_text(text + "\n")
    (zone / "energy_uj").chmod(0o400)  # as the kernel has it
    short_path.chmod(0o755)  # not one of pytest's, which it closes to others again
    user = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--bounding-set",
        "-all,+dac_read_search",
    ]
    caps = ["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"]
    if subprocess.run(
        [*user, *caps, sys.executable, "-c", "import ecolyzer_otel"], capture_output=True, check=False
    ).returncode:
        pytest.skip("another user cannot run this Python")
    place = short_path / "open"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    node = agent("--sysfs", str(short_path / "sys"), path=place / "agent.sock", front=(*user, *caps))
    assert "RAPL package-0 |" in node.output
    assert psutil.Process(node.process.pid).uids().real == 65534
    without = agent("--sysfs", str(short_path / "sys"), path=place / "b.sock", front=tuple(user))
    assert "permission" in without.output
