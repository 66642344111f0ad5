"""Real FFT of one length, callable from compiled code without the GIL.

FFTW does the work: the pyFFTW wheel carries it as a plain C library, so its plans run by address inside numba
functions. Where a build of pyFFTW hides that library, a mixed-radix FFT in numba takes its place; the two agree
to float32 rounding. Which one runs is visible in `RealFFT.backend`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from rtdenoise.native.compilation import Later, compiled, resolved
from rtdenoise.native.intrinsics import call3

Bundle: TypeAlias = tuple[Any, ...]  # Arrays of one object that travel through compiled code together.

jit = compiled(nogil=True, error_model="numpy")
inline = compiled(nogil=True, error_model="numpy", inline="always")  # Part of its caller.

FORWARD, INVERSE, FORWARD_PLAN, INVERSE_PLAN, TIME, FREQ = range(6)  # slots of an FFTW plan array
FFTW_ESTIMATE = 64  # always the same plan for a length, so two runs give equal output
# FFTW's planner, alone of its functions, is not thread-safe. Re-entrant, since the end of a dropped transform may come
# while another is planned. It cannot hold off a host that plans with pyFFTW in another thread: that lock is out of
# reach, and FFTW's own would bring an OpenMP runtime into the host.
_planner = threading.RLock()


def aligned(*shape: int) -> np.ndarray:
    """Zeros on a 64-byte boundary, which FFTW's SIMD code and cache lines want.

    Parameters
    ----------
    shape : int
        Sizes, one argument each.

    Returns
    -------
    ndarray
        float32 of this shape.
    """
    size = 4 * int(np.prod(shape))
    raw = np.zeros(size + 64, np.uint8)
    return raw[-raw.ctypes.data % 64 :][:size].view(np.float32).reshape(shape)


@cache
def fftw_library() -> ctypes.CDLL | None:
    """Single-precision FFTW out of the pyFFTW wheel (without importing it: that costs 0.3 s), or None."""
    spec = importlib.util.find_spec("pyfftw")
    for home in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        folders = (home.parent / "pyfftw.libs", home / ".dylibs", home, home.parent / "pyFFTW.libs")
        for path in (p for folder in folders for p in sorted(folder.glob("*fftw3f*")) if "omp" not in p.name):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:
                continue
            if hasattr(library, "fftwf_plan_dft_r2c_1d") and hasattr(library, "fftwf_execute_dft_c2r"):
                return library
    return None


class RealFFT:
    """Unscaled transforms, real to complex and back, between two buffers of its own.

    From compiled code, ``transform(fft.plan, fft.time, fft.freq)`` and `inverse_transform` run it.

    Parameters
    ----------
    n : int
        Samples, an even number.
    backend : {"auto", "numba"}, optional
        ``"auto"``: FFTW if pyFFTW has it as a plain C library.

    Attributes
    ----------
    time, freq : ndarray
        The two buffers; the inverse may overwrite ``freq``.
    plan : ndarray
        int64 addresses (FFTW) or complex64 twiddles (numba): its type picks the code, so what is compiled and cached
        for one is never run for the other.
    backend : str
        ``"fftw"`` or ``"numba"``.

    Shape
    -----
    ``time`` float32 ``[n]``; ``freq`` float32 ``[n // 2 + 1, 2]`` (re, im).

    References
    ----------
    FFTW's "new-array execute" functions, https://www.fftw.org/fftw3_doc/New_002darray-Execute-Functions.html; the other
    one is Stockham's auto-sort algorithm for any prime factors.
    """

    def __init__(self, n: int, backend: Literal["auto", "numba"] = "auto"):
        library = fftw_library() if backend == "auto" else None
        self.time, self.freq = aligned(n), aligned(n // 2 + 1, 2)
        self.backend = "numba" if library is None else "fftw"
        if library is None:
            self.plan = np.exp(-2j * np.pi * np.arange(n) / n).astype(np.complex64)
            return
        pointer = ctypes.c_void_p
        address = [ctypes.cast(getattr(library, f"fftwf_execute_dft_{d}"), pointer).value for d in ("r2c", "c2r")]
        buffers = self.time.ctypes.data, self.freq.ctypes.data
        plans = []
        with _planner:
            for name, ends in (("r2c", buffers), ("c2r", buffers[::-1])):
                make = getattr(library, f"fftwf_plan_dft_{name}_1d")
                make.restype, make.argtypes = pointer, [ctypes.c_int, pointer, pointer, ctypes.c_uint]
                plans.append(make(n, *ends, FFTW_ESTIMATE))
        self.plan = np.array([*address, *plans, *buffers], np.int64)
        weakref.finalize(self, _destroy, library, plans).atexit = False


def _destroy(library: ctypes.CDLL, plans: list[int]) -> None:
    library.fftwf_destroy_plan.restype, library.fftwf_destroy_plan.argtypes = None, [ctypes.c_void_p]
    with _planner:
        for plan in plans:
            library.fftwf_destroy_plan(plan)


@jit
def _mixed_radix(x: np.ndarray, twiddles: np.ndarray) -> np.ndarray:
    """Complex FFT of ``x`` (length n): Stockham, any prime factors; returns the array that holds the result."""
    n = x.size
    y = np.empty_like(x)
    m, s, r = n, 1, 2
    while m > 1:
        while m % r:
            r += 1
        m //= r
        for p in range(m):
            for j in range(r):
                turn = twiddles[(p * j * s) % n]
                for q in range(s):
                    total = x[q + s * p]
                    for i in range(1, r):
                        total += x[q + s * (p + i * m)] * twiddles[((i * j) % r) * (n // r)]
                    y[q + s * (r * p + j)] = total * turn
        s *= r
        x, y = y, x
    return x


def _fftw_forward(plan: Any, time: Any, freq: Any) -> None:
    call3(plan[FORWARD], (plan[FORWARD_PLAN], plan[TIME], plan[FREQ]))


def _fftw_inverse(plan: Any, time: Any, freq: Any) -> None:
    call3(plan[INVERSE], (plan[INVERSE_PLAN], plan[FREQ], plan[TIME]))


def _numba_forward(plan: Any, time: Any, freq: Any) -> None:
    z = _mixed_radix(time.astype(np.complex64), plan)
    for k in range(freq.shape[0]):
        freq[k, 0], freq[k, 1] = z[k].real, z[k].imag


def _numba_inverse(plan: Any, time: Any, freq: Any) -> None:
    n, last = time.size, freq.shape[0] - 1
    z = np.empty(n, np.complex64)
    for k in range(1, last):
        z[k] = complex(freq[k, 0], -freq[k, 1])  # The conjugate makes the forward transform run backwards.
        z[n - k] = complex(freq[k, 0], freq[k, 1])
    z[0], z[last] = freq[0, 0], freq[last, 0]
    z = _mixed_radix(z, plan)
    for i in range(n):
        time[i] = z[i].real


def _choice(fftw: Callable[..., None], in_numba: Callable[..., None]) -> Any:
    """What compiled code calls as ``transform(plan, time, freq)``: one of two functions, by the type of its plan."""
    from numba import types
    from numba.extending import overload

    def transform(plan: Any, time: Any, freq: Any) -> None:
        raise NotImplementedError

    implementations = resolved(fftw), resolved(in_numba)

    # numba wants the implementations to have the parameters of their overload, annotations included.
    @overload(transform, inline="always")
    def choose(plan: Any, time: Any, freq: Any) -> Callable[..., None]:
        return implementations[plan.dtype != types.int64]

    return transform


# For compiled code only, with the plan and buffers of a `RealFFT`: transform ``time`` into ``freq``, unscaled.
transform: Any = Later(lambda: _choice(_fftw_forward, _numba_forward))
# The other way: n times the samples. Imaginary parts at 0 Hz and Nyquist are ignored.
inverse_transform: Any = Later(lambda: _choice(_fftw_inverse, _numba_inverse))
