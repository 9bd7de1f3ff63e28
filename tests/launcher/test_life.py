"""The command keeps its PID, signals, streams and exit status; the meter comes and goes with it."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from support.waiting import PATIENCE, until

from .conftest import ENGINE, LAUNCHER, seconds_until_gone

WAYS_OUT = {
    "falls off the end": "",
    "sys.exit(7)": "sys.exit(7)",
    "an exception": "raise ValueError('the service failed')",
    "os._exit": "sys.stdout.flush(); os._exit(5)",
    "a crash": "import signal; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)",
    "SIGTERM": "import signal; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(240)",
    "SIGKILL": "import signal; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL); time.sleep(240)",
    "Ctrl-C": "import signal; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGINT); time.sleep(240)",
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_output_and_exit_status_are_those_of_the_bare_service(launch, way):
    code = (
        ENGINE
        + "\nfor _ in range(3): print(engine.infer())\nprint('last words', file=sys.stderr)\n"
        + WAYS_OUT[way]
    )
    bare, ours = launch(code, bare=True), launch(code)
    assert ours.wait() == bare.wait()
    assert ours.stdout == bare.stdout
    said = [line for line in ours.stderr.splitlines() if not line.startswith("ecolyzer: ")]
    assert [line.replace("1.py", "0.py") for line in said] == bare.stderr.splitlines()


def test_the_command_keeps_the_launchers_pid_and_the_meter_is_no_child_of_it(launch):
    service = launch(ENGINE + "engine.infer(); print(os.getpid(), flush=True); time.sleep(240)")
    assert int(service.wait_for("\n")) == service.process.pid
    meter = service.meter()
    assert psutil.Process(service.process.pid).children() == []
    assert os.getsid(meter.pid) != os.getsid(service.process.pid)
    null = os.stat(os.devnull).st_rdev
    assert [os.stat(f"/proc/{meter.pid}/fd/{n}").st_rdev for n in (0, 1)] == [null, null]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_meter_ends_within_three_seconds_of_the_service_and_leaves_nothing(launch, number):
    service = launch(
        ENGINE + "engine.infer(); print(os.environ['ECOLYZER_AGENT_SOCKET'], flush=True); time.sleep(240)"
    )
    folder = os.path.dirname(service.wait_for("\n").strip())
    assert oct(os.stat(folder).st_mode & 0o777) == "0o700"
    meter = service.meter()
    service.process.send_signal(number)
    assert service.wait() == -number
    assert seconds_until_gone(meter) < PATIENCE
    assert not os.path.exists(folder)


def test_signals_meant_for_the_service_do_not_end_the_meter(launch):
    service = launch(ENGINE + "print('up', flush=True); time.sleep(240)")
    meter = service.meter()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        meter.send_signal(number)
    time.sleep(0.3)
    assert meter.is_running()
    assert service.metrics()


def test_the_meter_stays_for_what_the_command_forked(launch):
    code = (
        ENGINE
        + """
if os.fork() == 0:
    os.setsid()
    time.sleep(1.5)
    for _ in range(5): engine.infer()
    print("child done", flush=True)
    time.sleep(240)
print("parent ends", flush=True)
os._exit(0)
"""
    )
    service = launch(code)
    assert service.wait() == 0
    until(lambda: "child done" in service.stdout, lambda: service.stderr)
    until(lambda: service.total("ecolyzer_requests_total") >= 5, service.metrics)
    assert service.total("ecolyzer_requests_total") == 5
    meter = service.meter()
    child = next(
        p for p in psutil.process_iter(["cmdline"]) if str(service.out)[:-4] + ".py" in (p.info["cmdline"] or ())
    )
    child.kill()
    assert seconds_until_gone(meter) < PATIENCE


def test_a_killed_meter_is_started_again_and_every_request_is_accounted_for(launch):
    code = (
        ENGINE
        + """
import ecolyzer_otel
for n in range(400):
    assert engine.infer() == "answer"
    if n == 100: print("go", flush=True)
    time.sleep(0.005)
assert ecolyzer_otel.flush(60)
print("counts", ecolyzer_otel.counts(), flush=True)
time.sleep(240)
"""
    )
    service = launch(code, env={"OTEL_TRACES_EXPORTER": "console"})
    service.wait_for("go")
    first = service.meter()
    first.kill()
    service.wait_for("counts")
    counts = eval(next(line for line in service.stdout.splitlines() if line.startswith("counts"))[7:])
    assert counts["served"] == 400
    assert counts["served"] == counts["accounted"] + counts["dropped"] + counts["pending"]
    assert counts["pending"] == 0
    # What was on its way to the first is lost; the second, which a worker started, has the rest.
    second = service.meter()
    assert second.pid != first.pid
    assert second.ppid() != service.process.pid
    assert 0 < counts["dropped"] == service.total("ecolyzer_dropped_requests_total")
    assert service.total("ecolyzer_pending_requests") == 0
    here = service.total("ecolyzer_requests_total") + service.total("ecolyzer_unsettled_requests_total")
    assert 200 < here <= counts["accounted"]
    service.process.terminate()
    service.wait()
    # Each request has its span all the same.
    assert service.stdout.count('"span_id"') == 400
    assert service.stdout.count('"ecolyzer.energy.method": "unsettled"') >= counts["dropped"]
    assert "Traceback" not in service.stderr
    assert seconds_until_gone(second) < PATIENCE


def test_a_process_of_the_standard_library_alone_stays_as_it_is(launch):
    service = launch("import sys, threading, json; print(sorted(sys.modules), threading.active_count())")
    assert service.wait() == 0
    assert "opentelemetry" not in service.stdout
    assert "ecolyzer_otel" not in service.stdout
    assert service.stdout.rstrip().endswith(" 1")


def test_no_framework_is_imported_by_us(launch):
    names = ("sklearn", "onnxruntime", "torch", "fastapi", "numpy")
    service = launch(ENGINE + f"engine.infer(); print([n for n in {names} if n in sys.modules])")
    assert service.wait() == 0
    assert service.stdout.strip() == "[]"


def test_a_sitecustomize_that_ours_hides_is_run_too(launch, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import builtins; builtins.hidden = 'it ran'")
    service = launch("print(hidden)", env={"PYTHONPATH": str(tmp_path / "site")})
    assert service.wait() == 0
    assert service.stdout == "it ran\n"


def test_a_module_in_the_working_directory_does_not_break_the_meter(launch, tmp_path):
    for name in ("types.py", "logging.py", "selectors.py"):
        (tmp_path / name).write_text("raise SystemExit('not the real one')")
    command = [sys.executable, "-I", "-c", "import time; time.sleep(240)"]
    assert launch("", command=command).metrics()


def _can_unshare() -> bool:
    probe = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False)
    return probe.returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="no permission to make a PID namespace")
class TestAsPid1:
    """In a container the launcher is PID 1 and stays, as a small init."""

    def start(self, launch, code: str):
        script = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", LAUNCHER, "--port", "0"]
        return launch(code, bare=True, command=[*script, sys.executable, "-c", ENGINE + code])

    def test_exit_status_is_the_commands(self, launch):
        service = self.start(launch, "engine.infer(); print(os.getppid()); sys.exit(9)")
        assert service.wait() == 9
        assert service.stdout.split() == ["1"]

    def test_signals_are_forwarded_and_the_meter_drains(self, launch):
        code = """
import signal
def stop(number, frame):
    for _ in range(7): engine.infer()
    print("stopping", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(240)
"""
        service = self.start(launch, code)
        service.wait_for("up")
        init = psutil.Process(service.process.pid).children()[0]
        init.send_signal(signal.SIGTERM)
        assert service.wait() == 0
        assert "stopping" in service.stdout

    def test_a_command_ended_by_a_signal_gives_128_plus_its_number(self, launch):
        assert self.start(launch, "os.kill(os.getpid(), 9)").wait() == 137


@pytest.mark.parametrize("version", ["2.7", "3.8"])
def test_an_older_interpreter_started_by_the_service_is_left_alone(launch, version):
    found = sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}*/bin/python")))
    python = found[0] if found else shutil.which(f"python{version}")  # pyenv's own first: its shims refuse
    if python is None:
        pytest.skip(f"no python{version} on this machine")
    service = launch("", command=[python, "-c", "import json, wsgiref; print('served')"])
    assert service.wait() == 0
    assert service.stdout == "served\n"
    assert [line for line in service.stderr.splitlines() if not line.startswith("ecolyzer: ")] == []
