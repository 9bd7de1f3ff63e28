"""What the sensors call of zeus-apple-silicon 1.1, answering from the JSON file named by FAKE_APPLE, in mJ."""

import json
import os

_FIELDS = (
    "cpu_total_mj",
    "efficiency_cores_mj",
    "performance_cores_mj",
    "efficiency_cluster_mj",
    "performance_cluster_mj",
    "efficiency_core_manager_mj",
    "performance_core_manager_mj",
    "dram_mj",
    "gpu_mj",
    "gpu_sram_mj",
    "ane_mj",
)


class AppleEnergyMetrics:
    def __init__(self, told):
        for field in _FIELDS:
            setattr(self, field, told.get(field))


class AppleEnergyMonitor:
    def __init__(self):
        self._start = self._told()

    def get_cumulative_energy(self):
        """Since a point that is fixed over the life of the monitor."""
        now = self._told()
        return AppleEnergyMetrics({name: value - self._start.get(name, 0) for name, value in now.items()})

    @staticmethod
    def _told():
        with open(os.environ["FAKE_APPLE"]) as file:
            told = json.load(file)
        if "error" in told:
            raise RuntimeError(told["error"])
        return told
