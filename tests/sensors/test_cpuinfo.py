"""Real processor names and numbers as /proc/cpuinfo gives them (flags shortened)."""

from __future__ import annotations

import pytest

from ecolyzer_otel.sensors import HostCpu
from ecolyzer_otel.sensors.cpuinfo import parse_cpuinfo, read_cpuinfo
from ecolyzer_otel.sensors.hardware import HardwareTable
from ecolyzer_otel.sensors.modelled import power_model


def _x86(vendor, family, model, stepping, name, *, virtual, sockets=1, cores=1, smt=2):
    hypervisor = " hypervisor" if virtual else ""
    blocks = []
    for number in range(sockets * cores * smt):
        socket, core = divmod(number % (sockets * cores), cores)
        blocks.append(
            f"processor\t: {number}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n"
            f"model name\t: {name}\nstepping\t: {stepping}\nphysical id\t: {socket}\nsiblings\t: {cores * smt}\n"
            f"core id\t\t: {core}\ncpu cores\t: {cores}\nflags\t\t: fpu vme sse2 ht{hypervisor} avx2\n"
        )
    return "\n".join(blocks)


_INTEL, _AMD = "GenuineIntel", "AuthenticAMD"
_GRAVITON3 = "\n".join(
    f"processor\t: {n}\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd40\nCPU revision\t: 1\n"
    for n in range(4)
)

#: text, provider, what the description must say
_MACHINES = {
    "sandbox VM": (_x86(_AMD, 25, 1, 1, "AMD EPYC", virtual=True), None, "AMD EPYC 3rd Gen, 2 vCPU, 0.9-3.9 W"),
    "aws m5": (
        _x86(_INTEL, 6, 85, 7, "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", virtual=True),
        "aws",
        "Cascade Lake, 2 vCPU, 1.4-8.1 W",
    ),
    "aws c5": (
        _x86(_INTEL, 6, 85, 4, "Intel(R) Xeon(R) Platinum 8124M CPU @ 3.00GHz", virtual=True),
        "aws",
        "Skylake, 2 vCPU, 1.2-8.2 W",
    ),
    "aws m4": (
        _x86(_INTEL, 6, 79, 1, "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", virtual=True),
        "aws",
        "Broadwell, 2 vCPU, 1.4-7.4 W",
    ),
    "aws c6a": (
        _x86(_AMD, 25, 1, 1, "AMD EPYC 7R13 Processor", virtual=True),
        "aws",
        "AMD EPYC 3rd Gen, 2 vCPU, 0.9-3.9 W",
    ),
    "aws m7a": (_x86(_AMD, 25, 17, 1, "AMD EPYC 9R14", virtual=True), "aws", "AMD EPYC 4th Gen, 2 vCPU, 1.5-4.6 W"),
    "aws m8a, whose own row is suspect": (
        _x86(_AMD, 26, 2, 1, "AMD EPYC 9R45", virtual=True),
        "aws",
        "AMD EPYC 5th Gen (by EPYC 4th Gen), 2 vCPU, 1.5-4.6 W",
    ),
    "aws m7g": (_GRAVITON3, "aws", "Graviton3, 4 CPUs, 1.9-6.8 W"),
    "gcp n1": (
        _x86(_INTEL, 6, 79, 0, "Intel(R) Xeon(R) CPU @ 2.20GHz", virtual=True),
        "gcp",
        "Broadwell, 2 vCPU, 1.4-6.8 W",
    ),
    "gcp c3": (
        _x86(_INTEL, 6, 143, 8, "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", virtual=True),
        "gcp",
        "Sapphire Rapids, 2 vCPU, 2.1-8.1 W",
    ),
    "gcp n2d": (_x86(_AMD, 23, 49, 0, "AMD EPYC 7B12", virtual=True), "gcp", "AMD EPYC 2nd Gen, 2 vCPU, 0.9-3.2 W"),
    "azure, no row of its own: mean of the others": (
        _x86(_INTEL, 6, 106, 6, "Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", virtual=True),
        "azure",
        "Ice Lake, 2 vCPU, 1.5-7.4 W",
    ),
    # 280 W for 64 cores = 128 threads: 2 of them 4.375 W, times 0.12 and 1.02.
    "azure, public model": (
        _x86(_AMD, 25, 1, 1, "AMD EPYC 7763 64-Core Processor", virtual=True),
        "azure",
        "AMD EPYC 7763, TDP 280 W, 2 vCPU, 0.5-4.5 W",
    ),
    # 8480+: 350 W for 56 cores = 112 threads: 2 of them 6.25 W.
    "azure, cloud suffix of a public model": (
        _x86(_INTEL, 6, 143, 8, "Intel(R) Xeon(R) Platinum 8480C", virtual=True),
        "azure",
        "Intel Xeon Platinum 8480+, TDP 350 W, 2 vCPU, 0.8-6.4 W",
    ),
    "desktop": (
        _x86(_AMD, 25, 33, 0, "AMD Ryzen 9 5950X 16-Core Processor", virtual=False, cores=16),
        None,
        "AMD Ryzen 9 5950X, TDP 105 W, 32 CPUs, 12.6-107.1 W",
    ),
    "server with two sockets": (
        _x86(_INTEL, 6, 85, 7, "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", virtual=False, sockets=2, cores=20),
        None,
        "Intel Xeon Gold 6248, TDP 150 W, 80 CPUs, 36.0-306.0 W",
    ),
    "nobody knows": (
        _x86("RiscFive", 1, 1, 1, "Mystery 9", virtual=False),
        None,
        "a generic server (unknown processor 'Mystery 9'), 2 CPUs, 1.7-7.4 W",
    ),
}


def _host(tree, threads: int) -> HostCpu:
    cpus = "\n".join(f"cpu{n} 0 0 0 0 0 0 0 0 0 0" for n in range(threads))
    return HostCpu(tree("proc", {"stat": f"cpu  0 0 0 0 0 0 0 0 0 0\n{cpus}"}), "/nonexistent")


@pytest.mark.parametrize("machine", _MACHINES)
def test_known_machines(tree, machine):
    text, provider, expected = _MACHINES[machine]
    cpu = parse_cpuinfo(text)
    model = power_model(cpu, _host(tree, cpu.threads), HardwareTable.load(), provider)
    assert model.description.startswith(f"modelled from {expected} (hardware table), ")


def test_the_less_is_known_the_wider_the_uncertainty(tree):
    def uncertainty(machine):
        text, provider, _ = _MACHINES[machine]
        cpu = parse_cpuinfo(text)
        return power_model(cpu, _host(tree, cpu.threads), HardwareTable.load(), provider).relative_uncertainty

    ladder = ["desktop", "aws m5", "aws m7g", "nobody knows"]
    values = [uncertainty(machine) for machine in ladder]
    assert values == sorted(set(values))
    assert values[0] >= 0.2


def test_numbers_of_a_server():
    cpu = parse_cpuinfo(_MACHINES["server with two sockets"][0])
    assert (cpu.vendor, cpu.family, cpu.model, cpu.stepping, cpu.virtual) == ("intel", 6, 85, 7, False)
    assert (cpu.sockets, cpu.cores, cpu.threads) == (2, 40, 80)


def test_longest_match_wins():
    table = HardwareTable.load()
    assert table.cpu("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz").model == "Intel Xeon Gold 6248R"
    assert table.cpu("AMD EPYC 9654P 96-Core Processor").model == "AMD EPYC 9654P"


def test_rows_are_found_by_their_own_names():
    table = HardwareTable.load()
    assert len(table._cpus) > 1000
    for row in table._cpus[::9]:  # a lookup takes some milliseconds
        assert table.cpu(row.model) == row


def test_a_part_of_a_bare_metal_server(tree):
    """A container with 8 of 80 threads has a tenth of 2 x 150 W."""
    text, _, _ = _MACHINES["server with two sockets"]
    model = power_model(parse_cpuinfo(text), _host(tree, 8), HardwareTable.load())
    assert model.watts(0.0) == pytest.approx(300 * 0.1 * 0.12)


def test_this_machine_or_a_platform_without_procfs_is_read(tmp_path):
    assert read_cpuinfo().threads >= 1
    assert read_cpuinfo(tmp_path).threads >= 1
