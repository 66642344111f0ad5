"""What compiled code needs beyond numba: C calls by run-time address, ordered memory access, vectors.

The instructions themselves are in `instructions`, `vector_moves` and `vector_products`, loaded once something is
compiled.
"""

from __future__ import annotations

from typing import Any

from rtdenoise.native.compilation import Later


def _intrinsic(module: str, name: str) -> Any:
    def make() -> Any:
        from rtdenoise.native import instructions, vector_moves, vector_products

        modules = {"instructions": instructions, "vector_moves": vector_moves, "vector_products": vector_products}
        return getattr(modules[module], name)

    return Later(make)


call3, call8 = _intrinsic("instructions", "call3"), _intrinsic("instructions", "call8")
load_acquire, store_release = _intrinsic("instructions", "load_acquire"), _intrinsic("instructions", "store_release")
pointer = _intrinsic("instructions", "pointer")
exponent_of, mantissa_of = _intrinsic("instructions", "exponent_of"), _intrinsic("instructions", "mantissa_of")
power_of_two = _intrinsic("instructions", "power_of_two")
move4, move8, move16 = (_intrinsic("vector_moves", name) for name in ("move4", "move8", "move16"))
weave8, part8, turn8 = (_intrinsic("vector_moves", name) for name in ("weave8", "part8", "turn8"))
product_of_one, product_of_two = _intrinsic("vector_products", "of_one"), _intrinsic("vector_products", "of_two")
product_of_four, product_of_eight = _intrinsic("vector_products", "of_four"), _intrinsic("vector_products", "of_eight")
product_of_fourteen, widen = _intrinsic("vector_products", "of_fourteen"), _intrinsic("vector_products", "widen")
product_of_fourteen_short = _intrinsic("vector_products", "of_fourteen_short")
