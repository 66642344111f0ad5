"""libpulse by ctypes: what a stream of our own needs of PulseAudio's client library.

It is there wherever a PulseAudio server runs, so nothing is compiled and nothing more is installed. The interface of
its streams has been fixed since 0.9.16.
"""

from __future__ import annotations

import ctypes as C
from functools import cache
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.client_library import typed

LIBRARY = "libpulse.so.0"
NO_AUTOSPAWN = 1  # a flag of a context
CONTEXT_READY, CONTEXT_FAILED = 4, 5  # States of a context; what follows has ended too.
STREAM_READY, STREAM_FAILED = 2, 3  # and of a stream
# Flags of a stream: the library asks for its latency now and then, and reckons it between; the device shall be as quick
# as the stream's buffers ask for.
TIMING, ADJUST_LATENCY = 0x2 | 0x8, 0x2000
FLOAT32 = 5 if C.c_uint16.from_buffer(bytearray(b"\1\0")).value == 1 else 6  # in this machine's byte order
WHATEVER = 0xFFFFFFFF  # a buffer's figure that the server may choose
MOST_CHANNELS = 32
PLACES = 1  # where the channels are, in ALSA's order (PA_CHANNEL_MAP_ALSA)


class SampleSpec(C.Structure):
    _fields_ = [("format", C.c_int), ("rate", C.c_uint32), ("channels", C.c_uint8)]


class ChannelMap(C.Structure):
    _fields_ = [("channels", C.c_uint8), ("map", C.c_int * MOST_CHANNELS)]


class BufferAttributes(C.Structure):
    """In bytes. ``target`` is what the server shall hold of a playback, ``request`` the least that it asks for,
    ``fragment`` what it sends of a recording at a time."""

    _fields_ = [(n, C.c_uint32) for n in ("longest", "target", "prebuffer", "request", "fragment")]


@cache
def library() -> C.CDLL | None:
    """The client library, or None where it is not installed."""
    word, text, number = C.c_void_p, C.c_char_p, C.c_int
    functions: dict[str, tuple[Any, ...]] = {
        "threaded_mainloop_new": (word,),
        "threaded_mainloop_free": (None, word),
        "threaded_mainloop_start": (number, word),
        "threaded_mainloop_stop": (None, word),
        "threaded_mainloop_lock": (None, word),
        "threaded_mainloop_unlock": (None, word),
        "threaded_mainloop_get_api": (word, word),
        "proplist_new": (word,),
        "proplist_sets": (number, word, text, text),
        "proplist_free": (None, word),
        "channel_map_init_extend": (word, word, C.c_uint, number),
        "context_new_with_proplist": (word, word, text, word),
        "context_connect": (number, word, text, number, word),
        "context_get_state": (number, word),
        "context_errno": (number, word),
        "context_disconnect": (None, word),
        "context_unref": (None, word),
        "stream_new_with_proplist": (word, word, text, word, word, word),
        "stream_connect_playback": (number, word, text, word, number, word, word),
        "stream_connect_record": (number, word, text, word, number),
        "stream_set_read_callback": (None, word, word, word),
        "stream_set_write_callback": (None, word, word, word),
        "stream_set_underflow_callback": (None, word, word, word),
        "stream_get_state": (number, word),
        "stream_disconnect": (number, word),
        "stream_unref": (None, word),
        "strerror": (text, number),
    }
    return typed(LIBRARY, {f"pa_{name}": types for name, types in functions.items()})


def loaded() -> C.CDLL:
    found = library()
    if found is None:
        raise DeviceError(f"PulseAudio's client library ({LIBRARY}) is not installed; use --backend portaudio")
    return found


def address_of(name: str) -> int:
    """Address of one of the library's functions, without its prefix."""
    return C.cast(getattr(loaded(), f"pa_{name}"), C.c_void_p).value or 0
