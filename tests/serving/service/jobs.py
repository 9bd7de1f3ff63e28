"""Programs that start worker processes in other ways: ``python jobs.py WAY`` makes 40 requests in all."""

import multiprocessing
import os
import subprocess
import sys


def work(count):
    from model import predict

    for _ in range(count):
        predict()
    wait_at_exit()
    return os.getpid()


def wait_at_exit():
    """Measuring keeps a process that ends for at most 1 s; on a busy machine that is too short for a report."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ecolyzer_otel.") and hasattr(module, "FLUSH_SECONDS"):
            module.FLUSH_SECONDS = 60.0


def pool(method):
    with multiprocessing.get_context(method).Pool(4) as workers:
        return workers.map(work, [5] * 8, chunksize=1)


def processes(method):
    started = [multiprocessing.get_context(method).Process(target=work, args=(10,)) for _ in range(4)]
    for one in started:
        one.start()
    for one in started:
        one.join()
    return [one.pid for one in started]


def loky():
    from joblib import Parallel, delayed

    return Parallel(n_jobs=4)(delayed(work)(5) for _ in range(8))


def futures():
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(4) as workers:
        return list(workers.map(work, [5] * 8))


def preloaded():
    # The parent serves before and while it has children.
    work(10)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            work(10)
            sys.exit(0)
        children.append(child)
    work(10)
    for child in children:
        os.waitpid(child, 0)
    return children


def command():
    code = "import jobs; jobs.work(20)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], check=True)
    return []


WAYS = {
    "pool-fork": lambda: pool("fork"),
    "pool-spawn": lambda: pool("spawn"),
    "pool-forkserver": lambda: pool("forkserver"),
    "process-fork": lambda: processes("fork"),
    "process-spawn": lambda: processes("spawn"),
    "joblib": loky,
    "futures": futures,
    "fork": preloaded,
    "subprocess": command,
}

if __name__ == "__main__":
    found = WAYS[sys.argv[1]]()
    print("workers", len(set(found)), flush=True)
    if "--stay" in sys.argv:
        import time

        time.sleep(240)
