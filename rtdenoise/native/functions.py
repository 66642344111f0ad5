"""Functions of one float32, as polynomials: unlike calls of libm, loops over them become vector instructions."""

from __future__ import annotations

import numpy as np

from rtdenoise.native.compilation import compiled
from rtdenoise.native.intrinsics import exponent_of, mantissa_of, power_of_two

REASSOCIATED = {"reassoc", "contract", "nsz", "arcp"}  # Sums in any order; what is not finite stays so, to be noticed.
HALF, ONE, ZERO = np.float32(0.5), np.float32(1), np.float32(0)

# tanh as a ratio of polynomials, odd over even, from the Eigen library (MPL-2).
REACH = np.float32(7.905)  # Beyond it tanh is +-1 in float32.
ODD = 4.8935246e-03, 6.372619e-04, 1.4857224e-05, 5.122297e-08, -8.604672e-11, 2.000188e-13, -2.760768e-16
EVEN = 4.8935252e-03, 2.2684346e-03, 1.18534706e-04, 1.1982584e-06
A1, A3, A5, A7, A9, A11, A13 = map(np.float32, ODD)
B0, B2, B4, B6 = map(np.float32, EVEN)

# ln(1 + x) = x - x^2 / 2 + x^3 (C0 + C1 x + ...) around 1, 2^x = 1 + D1 x + D2 x^2 + ... within a half of 0: the
# coefficients of logf and exp2f in the Cephes library (S. L. Moshier).
C0, C1, C2 = map(np.float32, (3.3333331174e-1, -2.4999993993e-1, 2.0000714765e-1))
C3, C4, C5 = map(np.float32, (-1.6668057665e-1, 1.4249322787e-1, -1.2420140846e-1))
C6, C7, C8 = map(np.float32, (1.1676998740e-1, -1.1514610310e-1, 7.0376836292e-2))
D1, D2, D3 = map(np.float32, (6.931472028550421e-1, 2.402264791363012e-1, 5.550332471162809e-2))
D4, D5, D6 = map(np.float32, (9.618437357674640e-3, 1.339887440266574e-3, 1.535336188319500e-4))
ROOT_TWO, LN_TWO = np.float32(2**0.5), np.float32(np.log(2))
LEAST, MOST = np.float32(2.0**-126), np.finfo(np.float32).max  # of the numbers with a logarithm here


@compiled(nogil=True, error_model="numpy", fastmath=REASSOCIATED, inline="always")
def _odd_and_even(x: np.float32) -> tuple[np.float32, np.float32]:
    """What tanh is the ratio of."""
    x = -REACH if x < -REACH else x
    x = REACH if x > REACH else x
    y = x * x
    odd = x * (A1 + y * (A3 + y * (A5 + y * (A7 + y * (A9 + y * (A11 + y * A13))))))
    return odd, B0 + y * (B2 + y * (B4 + y * B6))


@compiled(nogil=True, error_model="numpy", fastmath=REASSOCIATED, inline="always")
def tanh(x: np.float32) -> np.float32:
    """Tanh, to a few units of float32; NaN stays NaN."""
    odd, even = _odd_and_even(x)
    return odd / even


@compiled(nogil=True, error_model="numpy", fastmath=REASSOCIATED, inline="always")
def sigmoids(x: np.float32, y: np.float32) -> tuple[np.float32, np.float32]:
    """The logistic function of two numbers, for the price of one division; NaN in one makes both NaN."""
    a, b = _odd_and_even(HALF * x)
    c, d = _odd_and_even(HALF * y)
    scale = HALF / (b * d)
    return HALF + a * d * scale, HALF + c * b * scale


@compiled(nogil=True, error_model="numpy", fastmath=REASSOCIATED, inline="always")
def logarithm(x: np.float32) -> np.float32:
    """The natural logarithm of a number from `LEAST` to `MOST`, to a few units of float32."""
    n, m = exponent_of(x), mantissa_of(x)
    above = m > ROOT_TWO
    n = n + ONE if above else n
    m = HALF * m if above else m
    x = m - ONE
    z = x * x
    tail = C0 + x * (C1 + x * (C2 + x * (C3 + x * (C4 + x * (C5 + x * (C6 + x * (C7 + x * C8)))))))
    found: np.float32 = n * LN_TWO + (x - HALF * z + x * z * tail)
    return found


@compiled(nogil=True, error_model="numpy", fastmath=REASSOCIATED, inline="always")
def exponential(x: np.float32) -> np.float32:
    """``e^x`` of a number from -87 to 87, to a few units of float32."""
    x = x / LN_TWO
    n = np.floor(x + HALF)
    f = x - n
    found: np.float32 = power_of_two(n) * (ONE + f * (D1 + f * (D2 + f * (D3 + f * (D4 + f * (D5 + f * D6))))))
    return found
