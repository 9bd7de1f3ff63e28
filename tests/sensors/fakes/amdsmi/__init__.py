"""The functions of ROCm's amdsmi that the sensors call, answering from the JSON file named by FAKE_AMDSMI.

Names, arguments, types and units are those of amdsmi 7.0.2. In the file:
``{"gpus": [{"amdsmi_get_power_info": {…}}], "error": CODE}``; a number under ``"!function"`` is the amdsmi_status_t
that the function fails with.
"""

import json
import os
from enum import IntEnum

if not os.environ.get("FAKE_AMDSMI"):  # as the real package without ROCm's library
    print("Unable to find libamd_smi.so library try installing amd-smi-lib from your package manager")
    raise KeyError("libamd_smi.so")


class AmdSmiException(Exception):
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, err_code):
        super().__init__(err_code)
        self.err_code = err_code

    def __str__(self):
        return f"Error code:\n\t{self.err_code} | AMDSMI_STATUS"


class AmdSmiTemperatureType(IntEnum):
    EDGE = 0
    HOTSPOT = 1


class AmdSmiTemperatureMetric(IntEnum):
    CURRENT = 0
    CRITICAL = 5


_open = 0


def _state():
    with open(os.environ["FAKE_AMDSMI"]) as file:
        return json.load(file)


def _answer(handle, function, key=None):
    if not _open:
        raise AmdSmiLibraryException(32)
    if not isinstance(handle, _Handle) or handle.life != _open:
        raise AmdSmiLibraryException(31)
    gpu = _state()["gpus"][handle.index]
    if f"!{function}" in gpu:
        raise AmdSmiLibraryException(gpu[f"!{function}"])
    told = gpu.get(function)
    told = told.get(key) if key is not None and told is not None else told
    if told is None:
        raise AmdSmiLibraryException(2)
    return told


class _Handle:
    def __init__(self, index):
        self.index = index
        self.life = _open


def amdsmi_init(flag=None):
    global _open
    if "error" in _state():
        raise AmdSmiLibraryException(_state()["error"])
    _open += 1


def amdsmi_shut_down():
    pass


def amdsmi_get_processor_handles():
    if "error" in _state():
        raise AmdSmiLibraryException(_state()["error"])
    return [_Handle(index) for index in range(len(_state()["gpus"]))]


def amdsmi_get_energy_count(processor_handle):
    return _answer(processor_handle, "amdsmi_get_energy_count")


def amdsmi_get_power_info(processor_handle):
    return _answer(processor_handle, "amdsmi_get_power_info")


def amdsmi_get_power_cap_info(processor_handle):
    return _answer(processor_handle, "amdsmi_get_power_cap_info")


def amdsmi_get_gpu_asic_info(processor_handle):
    return _answer(processor_handle, "amdsmi_get_gpu_asic_info")


def amdsmi_get_gpu_device_uuid(processor_handle):
    return _answer(processor_handle, "amdsmi_get_gpu_device_uuid")


def amdsmi_get_gpu_activity(processor_handle):
    return _answer(processor_handle, "amdsmi_get_gpu_activity")


def amdsmi_get_gpu_metrics_info(processor_handle):
    return _answer(processor_handle, "amdsmi_get_gpu_metrics_info")


def amdsmi_get_temp_metric(processor_handle, sensor_type, metric):
    if not isinstance(sensor_type, AmdSmiTemperatureType) or not isinstance(metric, AmdSmiTemperatureMetric):
        raise AmdSmiException("Invalid parameter")
    return _answer(processor_handle, "amdsmi_get_temp_metric", f"{sensor_type.name} {metric.name}")
