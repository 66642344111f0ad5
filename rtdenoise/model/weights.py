"""What a model file says of other files: ONNX lets weights lie beside the graph, under any name that the file gives.

A model from a stranger must not make us read what it likes. So the file is looked through before a session sees it, as
far as references can hide in it: a walk over protobuf's wire format, no field of which is interpreted otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rtdenoise.errors import ModelError
from rtdenoise.model.wire import fields

Schema = dict[int, str]
SCHEMAS: dict[
    str, Schema
] = {  # message: its fields that can lead to a tensor, by number, and what they hold (onnx.proto)
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}
KEY, VALUE = 1, 2  # fields of "external data"
DEEPEST = 200  # messages within messages


def single_file(path: Path) -> bytes | None:
    """The content of a model file, or None if some of its weights lie in other files, which are then in its folder.

    Raises `ModelError` for a file that cannot be read, or that names one outside its folder.
    """
    try:
        content = path.read_bytes()
        names = set(_locations(memoryview(content), "model", 0))
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read ({problem.strerror}); check its rights, or get it again") from problem
    except (ValueError, MemoryError) as problem:
        raise ModelError(f"{path}: not an ONNX model ({problem or 'too large'}); get the file again") from problem
    for name in sorted(names):
        _check(path, name)
    return None if names else content


def _check(path: Path, name: str) -> None:
    homes = {path.absolute().parent.resolve(), path.resolve().parent}  # of a linked model: where it is called, and lies
    try:
        file = (path.absolute().parent / name).resolve()
        there, inside = file.is_file(), not Path(name).is_absolute() and any(home in file.parents for home in homes)
    except (OSError, ValueError, RuntimeError):  # a name that no file can have; a loop of links
        there, inside = False, True
    if not inside:
        raise ModelError(f"{path}: names weights outside its folder ({name[:200]!r}); do not use it")
    if not there:
        raise ModelError(f"{path}: its weights {name[:200]!r} are missing; keep them beside it")


def _locations(data: memoryview, message: str, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    if message == "external data":
        yield from _location(data)
        return
    schema = SCHEMAS[message]
    for number, field in _fields(data):
        if number in schema:
            yield from _locations(field, schema[number], depth + 1)


def _location(data: memoryview) -> Iterator[str]:
    """The value of an entry whose key is "location"; of repeated fields all, whichever a reader takes."""
    entry = [(number, bytes(field)) for number, field in _fields(data)]
    if (KEY, b"location") in entry:
        yield from (value.decode(errors="surrogateescape") for number, value in entry if number == VALUE)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every field that has a length; a reference hides in no other."""
    return ((number, field) for number, field in fields(data) if isinstance(field, memoryview))
