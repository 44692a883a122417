"""Simulated GPUs under the real nvitop: a Python object in the place of libnvidia-ml, and the same as a C library."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OK, UNINITIALIZED, INVALID, NOT_SUPPORTED, INSUFFICIENT_SIZE, LOST = 0, 1, 2, 3, 7, 15
GIB = 1024**3


@dataclass
class SimGpu:
    """One GPU; a MIG instance is a SimGpu in the `parts` of another."""

    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = ""
    memory_total: int = 80 * GIB
    memory_used: int = 10 * GIB
    utilization: int = 50
    temperature: int = 45
    power_mw: int = 250_000
    processes: list[tuple[int, int | None]] = field(default_factory=list)
    parts: list[SimGpu] = field(default_factory=list)
    is_part: bool = False
    lost: bool = False


class SimNvml:
    """The nvml* functions that the sampler reaches; handles are 1 + position, those of parts 100 times that and on."""

    def __init__(self, gpus: list[SimGpu], *, init_error: int = OK) -> None:
        self.gpus = gpus
        self.init_error = init_error
        self.calls = 0
        self._go = threading.Event()
        self._go.set()
        for index, gpu in enumerate(gpus):
            gpu.uuid = gpu.uuid or f"GPU-00000000-0000-0000-0000-{index:012d}"
            for number, part in enumerate(gpu.parts):
                part.is_part = True
                part.uuid = part.uuid or f"MIG-00000000-0000-0000-{index:04d}-{number:012d}"

    def hang(self) -> None:
        """From now on no call returns."""
        self._go.clear()

    def release(self) -> None:
        """All calls return again."""
        self._go.set()

    def _gpu(self, handle: Any) -> SimGpu:
        number = ctypes.cast(handle, ctypes.c_void_p).value or 0
        if number >= 100:
            return self.gpus[number // 100 - 1].parts[number % 100]
        return self.gpus[number - 1]

    def __getattribute__(self, name: str) -> Any:
        function = object.__getattribute__(self, name)
        if not name.startswith("nvml"):
            return function

        def call(*arguments: Any) -> int:
            self.calls += 1
            self._go.wait()
            result: int = function(*arguments)
            return result

        return call

    def nvmlInitWithFlags(self, _flags: int) -> int:
        return self.init_error

    def nvmlShutdown(self) -> int:
        return OK

    def nvmlErrorString(self, code: int) -> bytes:
        return f"simulated error {code}".encode()

    def nvmlSystemGetDriverVersion(self, buffer: Any, _length: Any) -> int:
        buffer.value = b"575.57.08"
        return OK

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return OK

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        if index.value >= len(self.gpus):
            return INVALID
        if self.gpus[index.value].lost:
            return LOST
        _point(handle._obj, index.value + 1)
        return OK

    def nvmlDeviceIsMigDeviceHandle(self, handle: Any, answer: Any) -> int:
        answer._obj.value = int(self._gpu(handle).is_part)
        return OK

    def nvmlDeviceGetMigMode(self, handle: Any, current: Any, pending: Any) -> int:
        gpu = self._gpu(handle)
        current._obj.value = pending._obj.value = int(bool(gpu.parts))
        return LOST if gpu.lost else OK

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any, count: Any) -> int:
        count._obj.value = 7
        return OK

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: Any, part: Any) -> int:
        gpu = self._gpu(handle)
        if index.value >= len(gpu.parts):
            return 6  # not found
        _point(part._obj, 100 * (self.gpus.index(gpu) + 1) + index.value)
        return OK

    def nvmlDeviceGetName(self, handle: Any, buffer: Any, _length: Any) -> int:
        return self._say(handle, buffer, self._gpu(handle).name)

    def nvmlDeviceGetUUID(self, handle: Any, buffer: Any, _length: Any) -> int:
        return self._say(handle, buffer, self._gpu(handle).uuid)

    def _say(self, handle: Any, buffer: Any, text: str) -> int:
        buffer.value = text.encode()
        return LOST if self._gpu(handle).lost else OK

    def nvmlDeviceGetMemoryInfo_v2(self, handle: Any, memory: Any) -> int:
        gpu = self._gpu(handle)
        memory._obj.total, memory._obj.used = gpu.memory_total, gpu.memory_used
        memory._obj.free = gpu.memory_total - gpu.memory_used
        return LOST if gpu.lost else OK

    def nvmlDeviceGetUtilizationRates(self, handle: Any, rates: Any) -> int:
        gpu = self._gpu(handle)
        rates._obj.gpu, rates._obj.memory = gpu.utilization, gpu.utilization // 2
        # Real split GPUs answer "not supported"; this one answers 0, as some drivers do, to see that it is not shown.
        return LOST if gpu.lost else NOT_SUPPORTED if gpu.is_part else OK

    def nvmlDeviceGetTemperature(self, handle: Any, _sensor: Any, value: Any) -> int:
        gpu = self._gpu(handle)
        value._obj.value = gpu.temperature
        return LOST if gpu.lost else NOT_SUPPORTED if gpu.is_part else OK

    def nvmlDeviceGetPowerUsage(self, handle: Any, value: Any) -> int:
        gpu = self._gpu(handle)
        value._obj.value = gpu.power_mw
        return LOST if gpu.lost else NOT_SUPPORTED if gpu.is_part else OK

    def nvmlDeviceGetPowerManagementLimit(self, handle: Any, value: Any) -> int:
        gpu = self._gpu(handle)
        value._obj.value = 700_000
        return LOST if gpu.lost else NOT_SUPPORTED if gpu.is_part else OK

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, out: Any) -> int:
        gpu = self._gpu(handle)
        if gpu.lost:
            return LOST
        room = count._obj.value
        count._obj.value = len(gpu.processes)
        if not gpu.processes:
            return OK
        if room < len(gpu.processes):
            return INSUFFICIENT_SIZE
        for slot, (pid, used) in zip(out, gpu.processes, strict=False):
            slot.pid, slot.usedGpuMemory = pid, 2**64 - 1 if used is None else used
        return OK

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, handle: Any, count: Any, out: Any) -> int:
        count._obj.value = 0
        return LOST if self._gpu(handle).lost else OK


def _point(pointer: Any, number: int) -> None:
    ctypes.cast(ctypes.byref(pointer), ctypes.POINTER(ctypes.c_void_p))[0] = number


def two() -> SimNvml:
    """Two different GPUs."""
    return SimNvml(
        [SimGpu(), SimGpu("NVIDIA GeForce RTX 4090", memory_total=24 * GIB, memory_used=2 * GIB, utilization=3)]
    )


def eight() -> SimNvml:
    """A full box; every GPU has other numbers."""
    return SimNvml(
        [
            SimGpu(
                memory_used=(5 + 9 * i) * GIB,
                utilization=(13 * i) % 101,
                temperature=40 + i,
                power_mw=90_000 + 75_000 * i,
            )
            for i in range(8)
        ]
    )


def split() -> SimNvml:
    """One GPU split by MIG into two parts, and one that is not."""
    parts = [
        SimGpu("NVIDIA A100 MIG 3g.20gb", memory_total=20 * GIB, memory_used=7 * GIB),
        SimGpu("NVIDIA A100 MIG 4g.20gb", memory_total=20 * GIB, memory_used=1 * GIB),
    ]
    return SimNvml([SimGpu("NVIDIA A100-SXM4-40GB", memory_total=40 * GIB, utilization=0, parts=parts), SimGpu()])


@contextlib.contextmanager
def installed(library: SimNvml | None) -> Iterator[SimNvml | None]:
    """Put `library` in the place of libnvidia-ml for this process; None: a machine without the library."""
    import pynvml

    from llamahome_tui.resources.gpus import load_nvitop

    nvitop = load_nvitop().libnvml
    real_loader = pynvml.CDLL

    def missing(name: str, *_: Any, **__: Any) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    def forget() -> None:
        pynvml._nvmlGetFunctionPointer_cache.clear()
        vars(nvitop)["__flags"].clear()
        vars(nvitop)["__initialized"] = False
        # Which versions of a function the library has is remembered by nvitop for the life of the process.
        for name in [n for n in vars(nvitop) if n.endswith("_version_suffix") and n.startswith("__get")]:
            vars(nvitop)[name] = None

    forget()
    pynvml.nvmlLib = library
    if library is None:
        pynvml.CDLL = missing
    try:
        yield library
    finally:
        if library is not None:
            library.release()
        pynvml.CDLL = real_loader
        pynvml.nvmlLib = None
        forget()


def build_library(folder: Path) -> Path | None:
    """Compile the C simulation to `folder/libnvidia-ml.so.1`; give the folder for LD_LIBRARY_PATH, None without gcc.

    A program that loads it sees NVMLSIM_GPUS GPUs (8), moving numbers, NVMLSIM_MODE ok | lost | hung | mig, and
    NVMLSIM_PID as the process on GPU 0.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    target = folder / "libnvidia-ml.so.1"
    source = Path(__file__).parent / "nvmlsim" / "nvmlsim.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", target, source], check=True)
    return folder
