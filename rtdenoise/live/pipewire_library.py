"""PipeWire's client library by ctypes: its functions, its structures, and the tables by which its objects are called.

`libpipewire-0.3` is there wherever PipeWire runs, so nothing is compiled and nothing more is installed. The order of
the tables has been fixed since 0.3.
"""

from __future__ import annotations

import ctypes as C
from collections.abc import Callable
from functools import cache
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.client_library import typed

LIBRARY = "libpipewire-0.3.so.0"
Words = dict[str, str]


class Item(C.Structure):
    _fields_ = [("key", C.c_char_p), ("value", C.c_char_p)]


class Dict(C.Structure):
    _fields_ = [("flags", C.c_uint32), ("count", C.c_uint32), ("items", C.POINTER(Item))]


class Interface(C.Structure):
    _fields_ = [("type", C.c_char_p), ("version", C.c_uint32), ("table", C.c_void_p), ("data", C.c_void_p)]


DONE = C.CFUNCTYPE(None, C.c_void_p, C.c_uint32, C.c_int)
ERROR = C.CFUNCTYPE(None, C.c_void_p, C.c_uint32, C.c_int, C.c_int, C.c_char_p)
GLOBAL = C.CFUNCTYPE(None, C.c_void_p, C.c_uint32, C.c_uint32, C.c_char_p, C.c_uint32, C.POINTER(Dict))
REMOVED = C.CFUNCTYPE(None, C.c_void_p, C.c_uint32)
STATE_CHANGED = C.CFUNCTYPE(None, C.c_void_p, C.c_int, C.c_int, C.c_char_p)


class CoreEvents(C.Structure):
    _fields_ = [("version", C.c_uint32), ("info", C.c_void_p), ("done", DONE), ("ping", C.c_void_p), ("error", ERROR)]
    _fields_ += [(n, C.c_void_p) for n in ("remove_id", "bound_id", "add_mem", "remove_mem")]


class RegistryEvents(C.Structure):
    _fields_ = [("version", C.c_uint32), ("added", GLOBAL), ("removed", REMOVED)]


class FilterEvents(C.Structure):
    _fields_ = [("version", C.c_uint32), ("destroy", C.c_void_p), ("state_changed", STATE_CHANGED)]
    _fields_ += [(n, C.c_void_p) for n in ("io_changed", "param_changed", "add_buffer", "remove_buffer", "process")]
    _fields_ += [(n, C.c_void_p) for n in ("drained", "command")]


class Hook(C.Structure):
    _fields_ = [("words", C.c_uint64 * 6)]


@cache
def library() -> C.CDLL | None:
    """The client library, ready for use, or None where PipeWire is not installed."""
    word, small, text = C.c_void_p, C.c_uint32, C.c_char_p
    functions: dict[str, tuple[Any, ...]] = {
        "pw_init": (None, word, word),
        "pw_thread_loop_new": (word, text, word),
        "pw_thread_loop_get_loop": (word, word),
        "pw_thread_loop_start": (C.c_int, word),
        "pw_thread_loop_stop": (None, word),
        "pw_thread_loop_lock": (None, word),
        "pw_thread_loop_unlock": (None, word),
        "pw_thread_loop_destroy": (None, word),
        "pw_properties_new_dict": (word, word),
        "pw_context_new": (word, word, word, C.c_size_t),
        "pw_context_connect": (word, word, word, C.c_size_t),
        "pw_context_destroy": (None, word),
        "pw_filter_new": (word, word, text, word),
        "pw_filter_add_listener": (None, word, word, word, word),
        "pw_filter_add_port": (word, word, C.c_int, C.c_int, C.c_size_t, word, word, small),
        "pw_filter_connect": (C.c_int, word, C.c_int, word, small),
        "pw_filter_update_params": (C.c_int, word, word, word, small),
        "pw_filter_destroy": (None, word),
        "pw_filter_get_node_id": (small, word),
    }
    found = typed(LIBRARY, functions)
    if found is not None:
        found.pw_init(None, None)
    return found


def dsp_buffer_address() -> int:
    """Address of what gives a process callback the samples of a port."""
    return C.cast(loaded().pw_filter_get_dsp_buffer, C.c_void_p).value or 0


def loaded() -> C.CDLL:
    found = library()
    if found is None:
        raise DeviceError(f"PipeWire's client library ({LIBRARY}) is not installed; use --backend portaudio")
    return found


def as_dict(words: Words) -> Dict:
    """Properties as the library takes them; what it needs of them it copies."""
    items = (Item * len(words))(*(Item(k.encode(), v.encode()) for k, v in words.items()))
    return Dict(0, len(words), items)


def as_words(properties: Any) -> Words:
    if not properties:
        return {}
    items = (properties[0].items[k] for k in range(properties[0].count))
    return {i.key.decode(errors="replace"): (i.value or b"").decode(errors="replace") for i in items}


def method(thing: int, place: int, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of an object's table, bound to the object."""
    interface = Interface.from_address(thing)
    address = C.c_void_p.from_address(interface.table + place * C.sizeof(C.c_void_p)).value or 0
    function = C.CFUNCTYPE(result, C.c_void_p, *arguments)(address)
    return lambda *values: function(interface.data, *values)
