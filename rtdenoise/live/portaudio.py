"""PortAudio, loaded on first use, without the noise its back ends write to the terminal."""

from __future__ import annotations

import ctypes
import ctypes.util
import gc
import os
import sys
import threading
from functools import cache
from types import ModuleType

from rtdenoise.errors import DeviceError
from rtdenoise.native.compilation import callback

INSTALL = {
    "linux": "install it: `apt install libportaudio2 libasound2-plugins` (Debian) or `dnf install portaudio` (Fedora)",
    "darwin": "reinstall sounddevice (`pip install --force-reinstall sounddevice`), which brings it along",
    "win32": "reinstall sounddevice (`pip install --force-reinstall sounddevice`), which brings it along",
}
CLIENT_NAME = b"rtdenoise"  # PortAudio keeps the pointer
changing = threading.RLock()  # PortAudio's list and streams are the whole process's, and made for one thread at a time
open_streams: set[object] = set()  # The streams of all sessions, changed under the lock.


@callback("void(voidptr, intc, voidptr, intc, voidptr)")
def _no_alsa_message(file: int, line: int, function: int, error: int, format: int) -> None:
    pass


@callback("void(voidptr)")
def _no_jack_message(text: int) -> None:
    pass


def _prepare() -> None:
    """Our name for JACK's patch bays; and silence, since ALSA and JACK report every device that is absent, and JACK
    would start a server just to be asked."""
    path = ctypes.util.find_library("portaudio")
    if path and hasattr(library := ctypes.CDLL(path), "PaJack_SetClientName"):
        library.PaJack_SetClientName(CLIENT_NAME)
    os.environ.setdefault("JACK_NO_START_SERVER", "1")
    for name, setters, handler in (
        ("asound", ("snd_lib_error_set_handler",), _no_alsa_message),
        ("jack", ("jack_set_error_function", "jack_set_info_function"), _no_jack_message),
    ):
        path = ctypes.util.find_library(name)
        if path:
            try:
                library = ctypes.CDLL(path)
                for setter in setters:
                    getattr(library, setter)(ctypes.c_void_p(handler.address))
            except (OSError, AttributeError):
                continue


@cache
def portaudio() -> ModuleType:
    """The `sounddevice` module; `DeviceError` with what to install where PortAudio is missing."""
    if sys.platform == "linux":
        _prepare()
    try:
        import sounddevice
    except (OSError, ImportError) as e:
        raise DeviceError(f"PortAudio is not installed; {INSTALL.get(sys.platform, INSTALL['linux'])}") from e
    except Exception as e:  # On import sounddevice initialises PortAudio, which may raise its PortAudioError.
        raise DeviceError(f"PortAudio does not start ({e}); is the sound system set up?") from e
    module: ModuleType = sounddevice
    return module


def _is_open_stream(thing: object) -> bool:
    return issubclass(type(thing), portaudio()._StreamBase) and not thing.closed  # type: ignore[attr-defined]


def rescan() -> None:
    """Let PortAudio see devices that came or went: its list is frozen at start. That closes every stream of the
    process, so it raises `DeviceError` while there is one, of another session or of the program's own (by
    `sounddevice`), or where the sound system does not start."""
    sd = portaudio()
    with changing:
        if open_streams or any(map(_is_open_stream, gc.get_objects())):
            raise DeviceError("PortAudio cannot rescan devices while another stream of this program is open")
        try:
            sd._terminate()
            sd._initialize()
        except sd.PortAudioError as e:
            raise DeviceError(f"PortAudio does not start again ({e}); is the sound system set up?") from e
