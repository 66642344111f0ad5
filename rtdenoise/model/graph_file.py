"""The graph in an ONNX file as plain data: nodes, weights, names. Reads; knows nothing of what a node computes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtdenoise.model.wire import fields, varint

TYPES: dict[int, Any] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}  # of tensors, by ONNX's numbers; others are not read
FLOATS, INT64S, RAW = 4, 7, 9  # where a tensor may hold its values


@dataclass(frozen=True)
class Node:
    """One operation: its kind, the names of what it takes ("" for nothing) and gives, and its attributes."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass
class Graph:
    """Nodes in the order in which they run, weights by name, and the names of inputs and outputs."""

    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read_graph(content: bytes) -> Graph:
    """The graph of a model file.

    Raises `ValueError` where it is no model, or holds what cannot be read: tensors of other types or in other files.
    """
    for number, value in fields(memoryview(content)):
        if number == 7 and isinstance(value, memoryview):
            return _graph(value)
    raise ValueError("it has no graph")


def _graph(data: memoryview) -> Graph:
    graph = Graph()
    for number, value in _messages(data):
        if number == 1:
            graph.nodes.append(_node(value))
        elif number == 5:
            name, array = _tensor(value)
            graph.weights[name] = array
        elif number in (11, 12):
            name = next(bytes(v).decode() for n, v in _messages(value) if n == 1)
            (graph.inputs if number == 11 else graph.outputs).append(name)
    return graph


def _messages(data: memoryview) -> list[tuple[int, memoryview]]:
    return [(number, value) for number, value in fields(data) if isinstance(value, memoryview)]


def _node(data: memoryview) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 4: [], 7: []}
    attributes = {}
    for number, value in _messages(data):
        if number in texts:
            texts[number].append(bytes(value).decode())
        elif number == 5:
            name, content = _attribute(value)
            attributes[name] = content
    if any(texts[7]):
        raise ValueError(f"operators of {texts[7][0]} are not known")
    return Node(texts[4][0], texts[1], texts[2], attributes)


def _attribute(data: memoryview) -> tuple[str, Any]:
    name, strings = "", []
    value: Any = None
    floats: list[float] = []
    integers: list[int] = []
    for number, content in fields(data):
        if isinstance(content, int):
            if number == 3:
                value = _signed(content)
            elif number == 8:
                integers.append(_signed(content))
        elif number == 1:
            name = bytes(content).decode()
        elif number == 2:
            value = struct.unpack("<f", content)[0]
        elif number == 4:
            value = bytes(content).decode()
        elif number == 5:
            value = _tensor(content)[1]
        elif number == 6:
            value = _graph(content)
        elif number == 7:
            floats += np.frombuffer(content, "<f4").tolist()
        elif number == 8:
            integers += _packed(content)
        elif number == 9:
            strings.append(bytes(content).decode())
    return name, next((v for v in (integers, floats, strings) if v), value)


def _tensor(data: memoryview) -> tuple[str, np.ndarray]:
    name, kind = "", 0
    dims: list[int] = []
    parts: list[np.ndarray] = []
    for number, content in fields(data):
        if number == 1:
            dims += [content] if isinstance(content, int) else _packed(content)
        elif number == 2 and isinstance(content, int):
            kind = content
        elif number == INT64S and isinstance(content, int):
            parts.append(np.array([_signed(content)]))
        elif isinstance(content, int):
            continue
        elif number == INT64S:
            parts.append(np.array(_packed(content), np.int64))
        elif number in (FLOATS, RAW) and kind in TYPES:
            parts.append(np.frombuffer(content, TYPES[kind]))
        elif number == 8:
            name = bytes(content).decode()
        elif number == 13:
            raise ValueError("weights lie in another file")
    if kind not in TYPES:
        raise ValueError(f"tensors of ONNX's type {kind} are not known")
    values = np.concatenate(parts) if parts else np.zeros(0)
    return name, values.astype(TYPES[kind]).reshape(dims)


def _packed(data: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = varint(data, at)
        found.append(_signed(value))
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
