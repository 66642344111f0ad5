"""Every slot that threads share has a name, a unit, a meaning and a cache line that no other thread writes to."""

from __future__ import annotations

import inspect
import re

from rtdenoise.live import ring

UNITS = {"frames", "channels", "hops", "samples", "ns", "Hz", "address", "count", "flag", "enum", "id", "scratch"}
LINE_SLOTS = 8  # a cache line of 64 bytes has eight slots of int64
CONSTANT = "Set before audio starts, constant afterwards"


def table() -> dict[str, dict[str, tuple[int, str]]]:
    """``writer: {name: (index, unit)}``, as the source states them."""
    found: dict[str, dict[str, tuple[int, str]]] = {}
    source = inspect.getsource(ring)
    for line in source[source.index(CONSTANT) : source.index("SLOTS = ")].splitlines():
        if writer := re.search(rf"({CONSTANT}|Written by [^:]*):$", line):
            slots = found.setdefault(writer[1], {})
        else:
            slot = re.fullmatch(r"(\w+) = (\d+)  # (\w+): \S.*", line)
            assert slot, line
            slots[slot[1]] = int(slot[2]), slot[3]
    return found


def test_every_slot_has_an_index_of_its_own_and_a_unit():
    slots = {name: slot for group in table().values() for name, slot in group.items()}
    places = [index for index, _ in slots.values()]
    places += [index + 1 for index, unit in slots.values() if unit == "scratch"]
    assert len(places) == len(set(places)) > 60
    assert max(places) < ring.SLOTS
    assert {unit for _, unit in slots.values()} <= UNITS
    assert all(getattr(ring, name) == index for name, (index, _) in slots.items())


def test_no_two_threads_write_to_one_cache_line():
    lines = [{index // LINE_SLOTS for index, _ in group.values()} for group in table().values()]
    assert len(lines) == 5
    assert sum(map(len, lines)) == len(set.union(*lines))
