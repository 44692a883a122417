"""GPUs through nvitop's API; every call may hang with the driver, so only `patience` threads come in here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llamahome_tui.resources.processes import ProcessTable
from llamahome_tui.resources.snapshot import Gpu, GpuProcess, GpuState

NO_DRIVER = "no NVIDIA driver"


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of the driver."""

    state: GpuState
    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    problem: str | None = None


def load_nvitop() -> Any:
    """nvitop's API, made silent: it would write CRITICAL lines over a full-screen terminal at every failed call."""
    logger = logging.getLogger("nvitop.api.libnvml")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    import nvitop.api

    return nvitop.api


class GpuReader:
    """Reads all GPUs; keeps the device handles between reads and takes new ones after any failure."""

    def __init__(self, processes: ProcessTable | None = None) -> None:
        self._processes = processes or ProcessTable()
        self._devices: Sequence[Any] | None = None
        self._driver: str | None = None
        self._limits: dict[object, float | None] = {}

    def read(self) -> Reading:
        """The state of every GPU now. Raises for nothing a driver does; blocks for as long as the driver does."""
        try:
            api = load_nvitop()
        except ImportError as error:
            return Reading(GpuState.FAILED, problem=f"nvitop cannot be loaded: {error}")
        try:
            devices = self._open(api)
            gpus = tuple(self._gpu(api, device) for device in devices)
        except api.libnvml.NVMLError as error:
            self._devices = None
            return _explain(api.libnvml, error)
        except (AttributeError, OSError, TypeError, ValueError) as error:  # a driver newer or older than the bindings
            self._devices = None
            return Reading(GpuState.FAILED, problem=f"the NVIDIA driver cannot be read: {error}")
        if not gpus:
            self._devices = None
            return Reading(GpuState.ABSENT, driver=self._driver, problem="the NVIDIA driver sees no GPU")
        if any(gpu.problem for gpu in gpus):
            self._devices = None  # a GPU that came back needs a new handle
        return Reading(GpuState.OK, gpus, self._driver)

    def _open(self, api: Any) -> Sequence[Any]:
        if self._devices is None:
            nvml = api.libnvml
            # Initialised by hand, nvitop registers no exit hook; its hook waits up to 120 s for a call that hangs.
            nvml.nvmlInit()
            count = nvml.nvmlQuery("nvmlDeviceGetCount", ignore_errors=False)
            self._driver = _text(api.Device.driver_version())
            self._limits.clear()
            self._devices = [api.PhysicalDevice(index) for index in range(count)]
        return self._devices

    def _gpu(self, api: Any, device: Any) -> Gpu:
        nvml = api.libnvml
        index = int(device.physical_index)
        if device.handle is None:
            lost = str(device.name()).removeprefix("ERROR: ")
            return Gpu(index, None, None, problem="GPU is lost" if "Lost" in lost else "GPU does not answer")
        gpu = replace(self._measure(api, device), index=index)
        if gpu.memory_total_bytes is None:
            problem = self._complaint(nvml, device)
            if problem:
                return Gpu(index, gpu.name, gpu.uuid, problem=problem)
        if not device.is_mig_mode_enabled():
            return gpu
        instances = tuple(
            replace(self._measure(api, part), index=number) for number, part in enumerate(device.mig_devices())
        )
        # A split GPU has no utilisation of its own; some drivers answer 0, which would read as "idle".
        return replace(gpu, utilization=None, mig=True, instances=instances)

    def _measure(self, api: Any, device: Any) -> Gpu:
        nvml = api.libnvml
        memory = device.memory_info()
        rates = nvml.nvmlQuery("nvmlDeviceGetUtilizationRates", device.handle, default=None)
        return Gpu(
            index=0,
            name=_text(device.name()),
            uuid=_text(device.uuid()),
            memory_used_bytes=_whole(memory.used),
            memory_total_bytes=_whole(memory.total),
            utilization=None if rates is None else _number(rates.gpu),
            temperature_c=_number(device.temperature()),
            power_w=_watts(device.power_usage()),
            power_limit_w=self._limit(api, device),
            processes=self._users(nvml, device),
        )

    def _limit(self, api: Any, device: Any) -> float | None:
        if device.index not in self._limits:
            self._limits[device.index] = _watts(device.power_limit())
        return self._limits[device.index]

    def _users(self, nvml: Any, device: Any) -> tuple[GpuProcess, ...]:
        # Not Device.processes(): it asks for the utilisation of each process too and builds psutil objects.
        held: dict[int, int | None] = {}
        for query in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            for process in nvml.nvmlQuery(query, device.handle, default=()):
                used = process.usedGpuMemory
                held[process.pid] = used if isinstance(used, int) else held.get(process.pid)
        found = []
        for pid, used in sorted(held.items(), key=lambda item: -(item[1] or 0)):
            who = self._processes.who(pid)
            found.append(GpuProcess(pid, who.name, who.user, used, who.run))
        return tuple(found)

    def _complaint(self, nvml: Any, device: Any) -> str | None:
        try:
            nvml.nvmlQuery("nvmlDeviceGetMemoryInfo", device.handle, ignore_errors=False)
        except nvml.NVMLError_GpuIsLost:
            return "GPU is lost"
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):
            return None
        except nvml.NVMLError as error:
            return f"GPU does not answer ({error})"
        return None


def _explain(nvml: Any, error: Exception) -> Reading:
    """The driver's refusal in words a person can act on."""
    for kind, state, words in (
        (nvml.NVMLError_LibraryNotFound, GpuState.ABSENT, NO_DRIVER),
        (nvml.NVMLError_DriverNotLoaded, GpuState.FAILED, "the NVIDIA driver is installed but not loaded"),
        (
            nvml.NVMLError_LibRmVersionMismatch,
            GpuState.FAILED,
            "the NVIDIA driver was updated under the running kernel module: reboot, or reload the module",
        ),
        (nvml.NVMLError_NoPermission, GpuState.FAILED, "no permission to ask the NVIDIA driver"),
        (nvml.NVMLError_GpuIsLost, GpuState.FAILED, "a GPU has fallen off the bus"),
    ):
        if isinstance(error, kind):
            return Reading(state, problem=words)
    return Reading(GpuState.FAILED, problem=f"the NVIDIA driver answers with an error: {error}")


def _text(value: Any) -> str | None:
    return None if value is None or value == "N/A" else str(value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None


def _watts(milliwatts: Any) -> float | None:
    value = _number(milliwatts)
    return None if value is None else round(value / 1000, 1)
