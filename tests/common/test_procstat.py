"""Busy ticks of a line of /proc/stat."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ecolyzer_otel.common.procstat import BUSY_TIMES, busy_ticks

#           name user nice system idle iowait irq softirq steal guest guest_nice
POWERS = b"cpu  1 2 4 8 16 32 64 128 256 512"


@pytest.mark.parametrize("line", [POWERS, POWERS.decode(), POWERS.replace(b"cpu ", b"cpu3")], ids=str)
def test_user_nice_system_irq_and_softirq_are_busy_without_idle_iowait_steal_and_guest(line: bytes | str) -> None:
    assert busy_ticks(line.split()) == 1 + 2 + 4 + 32 + 64
    assert BUSY_TIMES == ("user", "nice", "system", "irq", "softirq")


@pytest.mark.parametrize(("line", "ticks"), [("cpu 5", 5), ("cpu 5 0 2 9", 7), ("cpu 1 0 0 9 9 3", 4)])
def test_times_that_an_older_kernel_lacks_count_as_zero(line: str, ticks: int) -> None:
    assert busy_ticks(line.split()) == ticks


@pytest.mark.parametrize("line", ["", "cpu", "cpu x", "cpu 1 2 3 4 5 6 none"])
def test_a_line_without_times_or_with_words_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"no times|invalid literal"):
        busy_ticks(line.split())


def test_the_import_loads_no_other_folder_of_the_package() -> None:
    """The launcher uses it while the command waits."""
    code = (
        "import sys; import ecolyzer_otel.common.procstat; "
        "print([name for name in sys.modules if name.startswith('ecolyzer_otel.sensors')], 'psutil' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["[]", "False"]
