"""Protobuf's wire format, in which ONNX files are written: the fields of a message, without its schema."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, LONG, BYTES, SHORT = 0, 1, 2, 5  # kinds of a field
FIXED_BYTES = {LONG: 8, SHORT: 4}


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and content of every field: an integer, or the bytes of all other kinds.

    Raises `ValueError` where the data are no message.
    """
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = varint(data, at)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in FIXED_BYTES:
            size = FIXED_BYTES[kind]
        else:
            raise ValueError("its encoding is unknown")
        if size > len(data) - at:
            raise ValueError("it is cut short")
        yield tag >> 3, data[at : at + size]
        at += size


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """An integer of variable length at ``at``, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == len(data):
            raise ValueError("it is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("its encoding is unknown")
