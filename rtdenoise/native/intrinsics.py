"""What compiled code needs beyond numba: C calls by run-time address, ordered memory access, vectors.

The instructions themselves are in `instructions` and `vector_products`, which are loaded once something is compiled.
"""

from __future__ import annotations

from typing import Any

from rtdenoise.native.compilation import Later


def _instruction(name: str) -> Any:
    def make() -> Any:
        from rtdenoise.native import instructions

        return getattr(instructions, name)

    return Later(make)


def _product(name: str) -> Any:
    def make() -> Any:
        from rtdenoise.native import vector_products

        return getattr(vector_products, name)

    return Later(make)


call3, call8 = _instruction("call3"), _instruction("call8")
load_acquire, store_release = _instruction("load_acquire"), _instruction("store_release")
pointer = _instruction("pointer")
move4, move8 = _instruction("move4"), _instruction("move8")
product_of_one, product_of_two, product_of_four = _product("of_one"), _product("of_two"), _product("of_four")
product_of_eight, product_of_fourteen = _product("of_eight"), _product("of_fourteen")
widen = _product("widen")
