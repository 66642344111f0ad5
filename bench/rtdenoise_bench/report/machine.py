"""What was measured on: no figure without it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rtdenoise.native.fft import fftw_library

PACKAGES = ("rtdenoise", "onnxruntime", "numba", "numpy", "sounddevice")


@dataclass(frozen=True)
class Machine:
    """``load`` is the mean count of programs that wanted a core in the last minute, before the report began."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    versions: dict[str, str]
    governor: str
    load: float
    fft: str

    @property
    def line(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{self.processor}, {self.cores} cores, {self.system}, Python {self.python}, {versions}"


def look() -> Machine:
    """This machine, now."""
    return Machine(
        processor=_after("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gb=int((_after("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 1024**2,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: _version(name) for name in PACKAGES},
        governor=_first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
        fft="FFTW" if fftw_library() else "numba",
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as f:
            return f.readline().strip()
    except OSError:
        return ""


def _after(path: str, key: str) -> str:
    """The value of the first ``key: value`` line of a file of the system, or nothing."""
    try:
        with open(path, encoding="utf-8") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith(key))
    except (OSError, StopIteration):
        return ""
