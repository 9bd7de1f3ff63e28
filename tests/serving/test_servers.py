"""Every way to serve, with the launcher in front of it and nothing else: one meter, one port, each request once."""

from __future__ import annotations

import os
import signal
import time
import venv
from pathlib import Path

import psutil
import pytest
from support.waiting import AGES, PATIENCE

from .conftest import SERVICE, descendants

UVICORN = ["uvicorn", "app:asgi", "--port", "PORT", "--log-level", "warning"]
GUNICORN = ["gunicorn", "-b", "127.0.0.1:PORT", "--no-control-socket"]

SERVERS = {
    "uvicorn": UVICORN,
    "uvicorn --workers 4": [*UVICORN, "--workers", "4"],
    "uvicorn --reload": [*UVICORN, "--reload"],
    "python -m uvicorn": ["python", "-m", *UVICORN],
    "gunicorn": [*GUNICORN, "-w", "4", "app:wsgi"],
    "gunicorn --preload": [*GUNICORN, "-w", "3", "--preload", "app:wsgi"],
    "gunicorn uvicorn_worker": [*GUNICORN, "-w", "2", "-k", "uvicorn_worker.UvicornWorker", "app:asgi"],
    "gunicorn gthread": [*GUNICORN, "-w", "2", "-k", "gthread", "--threads", "4", "app:wsgi"],
    "gunicorn gevent": [*GUNICORN, "-w", "2", "-k", "gevent", "app:wsgi"],
    # Servers that nobody here has configured for us.
    "hypercorn": ["hypercorn", "-b", "127.0.0.1:PORT", "-w", "2", "app:asgi"],
    "waitress": ["waitress-serve", "--listen=127.0.0.1:PORT", "app:wsgi"],
    "granian": ["granian", "--interface", "asgi", "--port", "PORT", "--workers", "2", "app:asgi"],
}


@pytest.mark.parametrize("name", SERVERS)
def test_each_request_of_each_worker_counts_once(serve, name):
    service = serve(SERVERS[name])
    sent = service.wait_until_up() + service.load(60)
    metrics = service.settled(sent)
    assert sent == 61
    metrics.assert_requests_close()
    assert metrics.total("ecolyzer_requests_total", 'model="tiny"', 'framework="onnxruntime"') == 61
    assert len(service.meter_lines()) == 1
    assert metrics.total("ecolyzer_host_meters") >= 1


def test_a_shell_script_that_starts_python(serve, tmp_path):
    script = tmp_path / "serve.sh"
    script.write_text(
        '#!/bin/sh\nset -e\ncd "$1"\npython -c "import model; model.predict()"\n'
        "exec waitress-serve --listen=127.0.0.1:$2 app:wsgi\n"
    )
    script.chmod(0o755)
    service = serve([str(script), str(SERVICE), "PORT"])
    service.settled(service.wait_until_up() + service.load(20) + 1)


def test_workers_that_are_recycled_are_counted_to_their_last_request(serve):
    service = serve([*GUNICORN, "-w", "2", "--max-requests", "7", "app:wsgi"])
    sent = service.wait_until_up() + service.load(60)
    service.settled(sent)
    assert len(service.workers) >= 5


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_counted_twice(serve):
    service = serve([*UVICORN, "--workers", "2"])
    sent = service.wait_until_up() + service.load(20)
    service.settled(sent)  # nothing is on its way when it is killed
    victim = next(iter(service.workers))
    os.kill(victim, signal.SIGKILL)
    before = set(service.workers)
    deadline = time.monotonic() + PATIENCE
    while set(service.workers) == before and time.monotonic() < deadline:
        sent += service.load(20)
    service.settled(sent)
    assert set(service.workers) > before


def test_a_daemon_is_measured_until_it_ends(serve, tmp_path):
    pid_file = tmp_path / "pid"
    service = serve([*GUNICORN, "-w", "2", "--daemon", "--pid", str(pid_file), "app:wsgi"])
    try:
        assert service.process.wait(PATIENCE) == 0
        service.settled(service.wait_until_up() + service.load(40))
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


CLOSING = """
import os, sys
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.closerange(0, 4096)
os.open(os.devnull, os.O_RDWR)
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.dup2(log, 2); os.dup2(0, 1); os.set_inheritable(0, True)
open(sys.argv[1], "w").write(str(os.getpid()))
import time
time.sleep(3.0)  # until the meter has seen that everybody is gone
from waitress import serve
from app import wsgi
serve(wsgi, host="127.0.0.1", port=int(sys.argv[3]))
"""


def test_a_daemon_that_closes_every_descriptor_starts_a_meter_again(serve, tmp_path):
    pid_file = tmp_path / "pid"
    service = serve(["python", "-c", CLOSING, str(pid_file), str(tmp_path / "0.out"), "PORT"])
    try:
        assert service.process.wait(PATIENCE) == 0
        service.settled(service.wait_until_up() + service.load(40))
        assert len(service.meter_lines()) == 2
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


@pytest.mark.parametrize(
    "way",
    [
        "pool-fork",
        "pool-spawn",
        "pool-forkserver",
        "process-fork",
        "process-spawn",
        "joblib",
        "futures",
        "fork",
        "subprocess",
    ],
)
def test_processes_that_a_program_starts_for_itself(serve, way):
    job = serve(["python", str(SERVICE / "jobs.py"), way, "--stay"])
    job.settled(40)
    assert len(job.meter_lines()) == 1


def test_a_celery_worker(serve, tmp_path):
    for name in ("queue", "results"):
        (tmp_path / name).mkdir()
    env = {"CELERY_FOLDER": str(tmp_path)}
    worker = serve(
        [
            "celery",
            "-A",
            "tasks",
            "worker",
            "--concurrency",
            "3",
            "-l",
            "warning",
            "--without-mingle",
            "--without-gossip",
        ],
        env=env,
    )
    # Tasks are sent by a process that nobody measures.
    send = (
        "import tasks as t; sent = [t.predict.delay() for _ in range(30)]; print(len({s.get(200) for s in sent}))"
    )
    sender = serve(["python", "-c", send], front="", env=env)
    assert sender.process.wait(AGES) == 0, sender.output + worker.output
    worker.settled(30)
    assert int(sender.output) > 1, "more than one process worked"
    os.kill(
        worker.process.pid, signal.SIGTERM
    )  # a warm shutdown; all of the group at once would take Celery longer
    assert worker.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("options", [["-I"], ["-E"]])
def test_what_cannot_be_instrumented_is_silent(serve, options):
    path = f"import sys; sys.path.insert(0, {str(SERVICE)!r}); "
    service = serve(["python", *options, "-c", path + "import model; print(model.predict())"])
    assert service.process.wait(PATIENCE) == 0
    said = [line for line in service.output.splitlines() if " | http" not in line]
    assert said == ["4.0"]


def test_another_interpreter_without_this_package_is_silent(serve, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    (tmp_path / "beyond.py").write_text("print('served')")
    python = tmp_path / "venv" / "bin" / "python"
    service = serve([str(python), "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import beyond"])
    assert service.process.wait(PATIENCE) == 0
    assert [line for line in service.output.splitlines() if " | http" not in line] == ["served"]


def test_signals_and_status_are_the_servers_own(serve):
    service = serve([*GUNICORN, "-w", "2", "app:wsgi"])
    sent = service.wait_until_up() + service.load(20)
    service.settled(sent)
    children = descendants(service.process.pid)
    os.kill(service.process.pid, signal.SIGTERM)
    assert service.process.wait(PATIENCE) == 0
    psutil.wait_procs(children, PATIENCE)
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize(
    "name", ["uvicorn", "uvicorn --workers 4", "gunicorn", "gunicorn gevent", "gunicorn --preload", "granian"]
)
def test_under_plain_opentelemetry_instrument_workers_share_one_meter(serve, name):
    service = serve(SERVERS[name], front="opentelemetry-instrument")
    sent = service.wait_until_up() + service.load(60)
    metrics = service.settled(sent)
    metrics.assert_requests_close()
    (line,) = service.meter_lines()
    assert f":{service.port}/" in line


def test_a_program_under_plain_opentelemetry_instrument(serve):
    job = serve(["python", str(SERVICE / "jobs.py"), "pool-spawn", "--stay"], front="opentelemetry-instrument")
    job.settled(40)


def test_the_meter_of_a_plain_service_ends_with_it_and_leaves_nothing(serve, short_path):
    service = serve(
        ["waitress-serve", "--listen=127.0.0.1:PORT", "app:wsgi"],
        front="opentelemetry-instrument",
        env={"TMPDIR": str(short_path)},
    )
    service.settled(service.wait_until_up() + service.load(20))
    (folder,) = short_path.glob("ecolyzer-*")
    meter = next(
        one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())
    )
    os.kill(service.process.pid, signal.SIGTERM)
    service.process.wait(PATIENCE)
    psutil.wait_procs([meter], PATIENCE)
    assert not meter.is_running() or meter.status() == psutil.STATUS_ZOMBIE
    assert not Path(folder).exists()


def test_the_environment_of_a_service_gets_these_variables_and_no_others(serve):
    code = "import os; print(*sorted(k for k in os.environ if k.startswith(('ECOLYZER', 'OTEL'))))"
    service = serve(["python", "-c", code])
    assert service.process.wait(PATIENCE) == 0
    ours = "ECOLYZER_AGENT_SOCKET ECOLYZER_METER_FOLDER ECOLYZER_PORT OTEL_PYTHON_CONFIGURATOR OTEL_PYTHON_DISTRO"
    assert ours in service.output.splitlines()
