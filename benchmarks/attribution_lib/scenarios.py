"""Every scenario by name. A new one is one entry here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .sensors import Sensor
from .world import Lane, Limit, Model, Tenant, World

GPU = Sensor()
FAST_GPU = Sensor(period=0.001, jitter=0.00005, quantum=1e-3)
RAPL = Sensor("package-0", "cpu", period=0.001, jitter=0.00005, poll=0.1, quantum=61e-6, idle=35.0)
DRAM = Sensor("dram-0", "dram", period=0.001, jitter=0.00005, poll=0.1, quantum=15.3e-6, idle=6.0)


def _models(*watts: float, seconds: float = 0.030, **details: float | str | None) -> list[Model]:
    return [Model(f"model-{round(w)}w", {"gpu": w}, seconds, **details) for w in watts]  # type: ignore[arg-type]


FOUR = _models(25, 60, 100, 140)
EIGHT = _models(25, 35, 50, 65, 80, 100, 120, 140)
# One thread of its own does the work of some, a native pool that of others, at other watts per core.
CPU_FOUR = [
    Model("tree", {"cpu": 8.0, "dram": 1.0}, 0.010, own_cores=1.0),
    Model("bert", {"cpu": 45.0, "dram": 9.0}, 0.040, own_cores=0.9, pool_cores=3.0),
    Model("resnet", {"cpu": 80.0, "dram": 6.0}, 0.030, own_cores=0.6, pool_cores=6.0),
    Model("whisper", {"cpu": 28.0, "dram": 4.0}, 0.060, own_cores=0.2, pool_cores=2.0),
]


def _lanes(
    models: Sequence[Model], n: int = 3, pids: Sequence[int] = (100,), **details: float | str | None
) -> list[Lane]:
    return [
        Lane([[model] for model in models], pid=pids[i % len(pids)], **details)  # type: ignore[arg-type]
        for i in range(n)
    ]


def _gpu(
    description: str, models: Sequence[Model] = FOUR, sensor: Sensor = GPU, lanes: int = 3, **details: object
) -> World:
    return World(description, [sensor], _lanes(models, lanes), **details)  # type: ignore[arg-type]


BASE = _gpu(
    "GPU, 3 lanes at 60 % load, 30 ms requests of 4 models (25-140 W, 20 % spread), 100 ms counter, idle known"
)

_EVERYONE = ("host_cpu", "processes")
_CPU_LANES = [Lane(lane.jobs, lane.pid, lane.load, gpu=None) for lane in _lanes(CPU_FOUR, 3, (100, 101))]
_CPU_TENANTS = [
    Tenant(900, {"package-0": 30.0, "dram-0": 2.0}, on=0.5, off=1.0, cores=2.0),
    Tenant(100, {"package-0": 6.0, "dram-0": 0.5}, on=0.05, off=0.2, cores=0.5),
]
CPU = World(
    "CPU, 3 lanes in 2 processes, native pools, a foreign process, exact CPU times and RAPL read each 100 ms",
    [RAPL],
    _CPU_LANES,
    _CPU_TENANTS,
    activity=_EVERYONE,
)
_FINE = replace(RAPL, poll=0.01)


def _sensor(description: str, sensor: Sensor, base: World = BASE, **details: object) -> World:
    return replace(base, description=description, sensors=[sensor], **details)  # type: ignore[arg-type]


def _fault(description: str, *faults: str) -> World:
    return replace(BASE, description=f"base, {description}", faults=faults)


_LLM = [
    Model("llm", {"gpu": 300.0}, 0.060, phase="prefill", spread=0.1),
    Model("llm", {"gpu": 140.0}, 0.240, phase="decode", spread=0.1),
]
_SMALL_LLM = [
    Model("small-llm", {"gpu": 160.0}, 0.020, phase="prefill", spread=0.1),
    Model("small-llm", {"gpu": 70.0}, 0.100, phase="decode", spread=0.1),
]
_BATCHED = [
    Model("ranker", {"gpu": 1.0}, 0.015, max_items=16, base_joules=1.0, item_joules=0.25, item_seconds=0.002),
    Model("encoder", {"gpu": 1.0}, 0.020, max_items=16, base_joules=0.6, item_joules=0.05, item_seconds=0.001),
    *_models(60),
]


def _sweep(lanes: int) -> World:
    """In flight ``lanes`` requests of 1 s at any time, a few watts in all however many they are."""
    models = [Model(f"model-{i}", {"gpu": w / lanes}, 1.0) for i, w in enumerate((80, 160, 240, 320))]
    return World(
        f"{lanes} requests of 1 s in flight at all times, 4 models, 100 ms counter (for its cost)",
        [replace(GPU, quantum=1e-3)],
        _lanes(models, lanes, load=1.0),
        seconds=max(10.0, min(60.0, 40000 / lanes)),
        has_target=lanes <= 8,
    )


_HOST = [
    replace(RAPL, part=0.55),
    replace(RAPL, id="package-1", part=0.45, idle=32.0),
    DRAM,
    GPU,
    replace(GPU, id="gpu1", idle=55.0),
]
_ON_GPU = [
    Model(m.name, {"gpu": m.watts["gpu"], "cpu": 10.0 + m.watts["gpu"] / 20, "dram": 2.0}, 0.030, own_cores=0.8)
    for m in FOUR
]

# Held out: worlds of other proportions, on which nothing in the ledger was ever tuned. They check calibration.
_SIX = [
    Model(name, {"gpu": watts}, seconds, duration_sigma=0.4, spread=0.3)
    for name, watts, seconds in (
        ("tiny", 15, 0.012),
        ("small", 40, 0.020),
        ("base", 75, 0.035),
        ("large", 120, 0.050),
        ("wide", 170, 0.025),
        ("huge", 220, 0.080),
    )
]
_OTHER_CPU = [
    Model("forest", {"cpu": 12.0}, 0.015, own_cores=1.0, pool_cores=0.5, spread=0.15),
    Model("ocr", {"cpu": 60.0}, 0.080, own_cores=0.5, pool_cores=4.0, spread=0.25),
    Model("vad", {"cpu": 9.0}, 0.006, own_cores=0.9, spread=0.15),
]
HELD_OUT: dict[str, World] = {
    "held_slow": _gpu(
        "held out: 6 models (15-220 W, 30 % spread, 12-80 ms), 5 lanes at 45 %, 200 ms counter",
        sensor=replace(GPU, period=0.2),
        seconds=120.0,
    ),
    "held_fast": _gpu("held out: the six, 2 lanes at 85 %, 2 ms counter", sensor=replace(FAST_GPU, period=0.002)),
    "held_cap": _gpu("held out: the six, 5 lanes at 45 %, 300 W cap", limits={"gpu0": Limit(cap=300.0)}),
    "held_tenant": replace(
        BASE,
        description="held out: the six, 3 lanes at 70 %, a bursty tenant reported, 50 ms counter",
        sensors=[replace(GPU, period=0.05)],
        tenants=[Tenant(900, {"gpu0": 110.0}, on=0.05, off=0.2)],
        activity=("devices", "processes"),
    ),
    "held_no_idle": _gpu(
        "held out: the six, 2 lanes at 50 %, 50 ms counter, idle unknown",
        sensor=replace(GPU, period=0.05, idle=85.0, idle_in_document=False),
    ),
    "held_cpu": World(
        "held out: other CPU models, 4 lanes in 2 processes at 35 %, RAPL read each 50 ms",
        [replace(RAPL, poll=0.05)],
        [Lane([[model] for model in _OTHER_CPU], pid=100 + i % 2, load=0.35, gpu=None) for i in range(4)],
        _CPU_TENANTS,
        activity=_EVERYONE,
        activity_period=0.05,
    ),
}
HELD_OUT["held_slow"] = replace(HELD_OUT["held_slow"], lanes=_lanes(_SIX, 5, load=0.45))
HELD_OUT["held_fast"] = replace(HELD_OUT["held_fast"], lanes=_lanes(_SIX, 2, load=0.85), seconds=30.0)
HELD_OUT["held_cap"] = replace(HELD_OUT["held_cap"], lanes=_lanes(_SIX, 5, load=0.45))
HELD_OUT["held_tenant"] = replace(HELD_OUT["held_tenant"], lanes=_lanes(_SIX, 3, load=0.7))
HELD_OUT["held_no_idle"] = replace(HELD_OUT["held_no_idle"], lanes=_lanes(_SIX, 2, load=0.5), quiet=0.0)

SCENARIOS: dict[str, World] = {
    "gpu_base": BASE,
    "gpu_1ms": _gpu("base, on a 1 ms counter", sensor=FAST_GPU, seconds=30.0),
    "gpu_20ms": _gpu("base, on a 20 ms counter", sensor=replace(GPU, period=0.02)),
    "gpu_short": _gpu("base, with 5 ms requests", _models(25, 60, 100, 140, seconds=0.005), seconds=40.0),
    "gpu_long": _gpu("base, with 500 ms requests", _models(25, 60, 100, 140, seconds=0.5), seconds=180.0),
    "gpu_spread50": _gpu("base, with 50 % spread", _models(25, 60, 100, 140, spread=0.5)),
    "gpu_wobble": _gpu("base, power wobbles by half within each request", _models(25, 60, 100, 140, wobble=0.5)),
    "gpu_lead": World("base, kernels start 5 ms after the request", [GPU], _lanes(FOUR, lead=0.005)),
    "eight_models": _gpu("8 models, 4 lanes, 100 ms counter", EIGHT, lanes=4),
    "power_cap": _gpu(
        "8 models, 8 lanes under a 330 W cap that binds half of the time",
        EIGHT,
        lanes=8,
        limits={"gpu0": Limit(cap=330.0)},
    ),
    "concave": _gpu(
        "8 models, 4 lanes, concave total (knee 250 W), truth in proportion",
        EIGHT,
        lanes=4,
        limits={"gpu0": Limit(knee=250.0)},
    ),
    "concave_shapley": _gpu(
        "8 models, 4 lanes, concave total (knee 250 W), truth by Shapley value",
        EIGHT,
        lanes=4,
        limits={"gpu0": Limit(knee=250.0, shapley=True)},
    ),
    "tenant": replace(
        BASE,
        description="base, and a foreign process of 70 W on the GPU, its use reported",
        tenants=[Tenant(900, {"gpu0": 70.0})],
        activity=("devices", "processes"),
    ),
    "tenant_untold": replace(
        BASE,
        description="base, and a foreign process of 40 W that no source reports",
        tenants=[Tenant(900, {"gpu0": 40.0})],
        has_target=False,
    ),
    "many_processes": World(
        "base, with 6 lanes in 6 processes, their use reported",
        [GPU],
        _lanes(FOUR, 6, range(100, 106), load=0.4),
        activity=("devices", "processes"),
    ),
    "wrap": _sensor("base, the counter wraps each 500 J", replace(GPU, wrap=500.0)),
    "wrap_cpu": replace(CPU, description="CPU, the counter wraps each 500 J", sensors=[replace(RAPL, wrap=500.0)]),
    "fault_reset": _fault("one reset, announced", "reset"),
    "fault_reset_silent": _fault("one reset, not announced", "reset_silent"),
    "fault_lost": _fault("3 s without readings, announced", "lost"),
    "fault_lost_silent": _fault("3 s without readings, not announced", "lost_silent"),
    "fault_repeated": _fault("every reading four times", "repeated"),
    "fault_missing": _fault("a tenth of the readings missing", "missing"),
    "fault_backwards": _fault("one step backwards", "backwards"),
    "fault_spike": _fault("one reading a million joules too high", "spike"),
    "fault_stuck": _fault("the counter stands for 3 s, then jumps", "stuck"),
    "fault_suspend": _fault("the machine sleeps, announced; 2000 J when it wakes", "suspend"),
    "fault_late": _sensor("base, readings up to 20 ms late", replace(GPU, late=0.02)),
    "fault_gain": _sensor("base, the counter shows 5 % too little", replace(GPU, gain=0.95), has_target=False),
    "fault_idle": _sensor(
        "base, the idle watts in the table 20 % too high", replace(GPU, idle_error=0.2), has_target=False
    ),
    "faults_all": replace(
        _fault(
            "all faults",
            "missing",
            "repeated",
            "backwards",
            "reset",
            "spike",
            "stuck",
            "lost",
            "suspend",
            "reset_silent",
        ),
        seconds=90.0,
    ),
    "cpu_base": CPU,
    "cpu_10ms": replace(
        CPU, description="CPU, RAPL and CPU times read each 10 ms", sensors=[_FINE], activity_period=0.01
    ),
    "cpu_ticks": replace(CPU, description="CPU, host CPU time in ticks of 10 ms", host_tick=0.01),
    "cpu_alone": replace(CPU, description="CPU, no foreign process, no work outside of requests", tenants=()),
    "cpu_quiet_start": replace(
        CPU,
        description="CPU, idle unknown, 5 s quiet start",
        sensors=[replace(RAPL, idle_in_document=False)],
        quiet=5.0,
    ),
    "cpu_no_idle": replace(
        CPU,
        description="CPU, idle unknown, no quiet start",
        sensors=[replace(RAPL, idle_in_document=False)],
        quiet=0.0,
    ),
    "gpu_quiet_start": _sensor(
        "base, idle unknown, 5 s quiet start", replace(GPU, idle_in_document=False), quiet=5.0
    ),
    "gpu_no_idle": _sensor("base, idle unknown, no quiet start", replace(GPU, idle_in_document=False), quiet=0.0),
    "gpu_steady": World(
        "base, idle unknown, and a load that never pauses",
        [replace(GPU, idle_in_document=False)],
        _lanes(FOUR, load=1.0),
        quiet=0.0,
        has_target=False,
    ),
    "whole_host": World(
        "2 packages, DRAM, 2 GPUs: 2 lanes on each GPU and 2 on the CPU, a foreign process",
        _HOST,
        [
            *_lanes(_ON_GPU, 2, (100,)),
            *_lanes(_ON_GPU, 2, (101,), gpu="gpu1"),
            *[replace(lane, pid=102) for lane in _CPU_LANES[:2]],
        ],
        [Tenant(900, {"package-0": 18.0, "package-1": 12.0, "dram-0": 2.0}, on=0.5, off=1.0, cores=2.0)],
        activity=("host_cpu", "devices", "processes"),
    ),
    "batches": World(
        "batches of 1-16 items, energy base + n x item, 3 lanes, 100 ms counter", [GPU], _lanes(_BATCHED)
    ),
    "no_labels": _gpu("base, all under one model name", _models(25, 60, 100, 140, label="model")),
    "collinear": World(
        "two models that always run together, and two others",
        [GPU],
        [Lane([[FOUR[3]]], companions=[FOUR[0]]), *_lanes([FOUR[1], FOUR[2]], 2)],
        has_target=False,
    ),
    "phases": World(
        "prefill and decode of two language models as phases, 3 lanes",
        [GPU],
        [Lane([_LLM, _SMALL_LLM]) for _ in range(3)],
        seconds=90.0,
    ),
    "long_beside_short": World(
        "10 s generations beside 30 ms requests",
        [GPU],
        [Lane([[Model("llm", {"gpu": 150.0}, 10.0)]], load=0.8), *_lanes(FOUR, 2)],
        seconds=120.0,
    ),
    "drift": World(
        "base, a model draws 40 % more from the middle on", [GPU], _lanes([*FOUR[:3], replace(FOUR[3], drift=1.4)])
    ),
    "boxcar": _sensor("base, the sensor sees 25 ms of each 100 ms", replace(GPU, boxcar=0.025)),
    "mean_1s": _sensor("base, the sensor shows the mean of the last second", replace(GPU, mean=1.0), tail=1.5),
    "watt_1s": _sensor(
        "base, the sensor shows integer watts each second",
        replace(GPU, period=1.0, mean=1.0, watt_quantum=1.0),
        tail=1.5,
    ),
    **HELD_OUT,
    **{f"in_flight_{n}": _sweep(n) for n in (1, 8, 64, 512, 4096)},
}
