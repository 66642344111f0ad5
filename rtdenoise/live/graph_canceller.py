"""PipeWire's echo canceller in a process of its own, which ends when ours does, however that ends.

As a module of the server it can take the server with it: unloading frees its streams one by one while its audio thread
still works with them (seen with 0.3.65: the server crashed in one of thirty unloads). This process only takes itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import Any

from rtdenoise.errors import DeviceError
from rtdenoise.live.own_modules import RATE_HZ
from rtdenoise.live.pipewire import OVERRULING

MODULE = "libpipewire-module-echo-cancel"
MONITOR = ".monitor"  # PulseAudio's name for what a sink plays; PipeWire knows only the sink.
REALTIME = {"name": "libpipewire-module-rt", "flags": ["ifexists", "nofail"]}
CLIENT = ["libpipewire-module-protocol-native", "libpipewire-module-client-node", "libpipewire-module-adapter"]
LIBRARIES = {"audio.convert.*": "audioconvert/libspa-audioconvert", "support.*": "support/libspa-support"}
# The shell waits in the background for a line that never comes: reading ends with the process that holds the pipe's
# other end, which also a killed one lets go.
UNTIL_WE_END = 'exec 3<&0 </dev/null; { read -r _ <&3; kill $$; } & exec pipewire -c "$0" 3<&-'
END_S = 5.0  # It ends in a few milliseconds.
Words = dict[str, str]


class GraphCanceller:
    """Runs ``pipewire`` with the canceller alone, from ``microphone`` and ``speakers`` to a source and a sink of these
    properties. `DeviceError` where it cannot be started; that it is there is for others to see."""

    def __init__(self, microphone: str, speakers: str, source: Words, sink: Words, engine: Words):
        words = json.dumps(_configuration(microphone, speakers, source, sink, engine), indent=1)  # 0.3.65 needs lines.
        kept = {name: value for name, value in os.environ.items() if name not in OVERRULING}
        file = _file(words)
        try:
            self._process = subprocess.Popen(
                ["sh", "-c", UNTIL_WE_END, f"/dev/fd/{file}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=kept,
                pass_fds=[file],
                start_new_session=True,  # Ctrl-C is for us; the canceller is needed until programs are moved back.
            )
        except OSError as e:
            raise DeviceError(f"an echo canceller cannot be started ({e})") from e
        finally:
            os.close(file)

    @property
    def ended(self) -> bool:
        """Whether it ended by itself: the canceller is not installed, or the server went away."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it, and with it its source and its sink."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)


def _file(words: str) -> int:
    """A file in memory, which a killed process leaves nowhere; it has a number that the shell's script does not use."""
    import fcntl  # as `os.memfd_create`, for Linux only

    with open(os.memfd_create("rtdenoise-echo.conf"), "w", encoding="utf-8") as file:
        file.write(words)
        file.flush()
        return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)


def _configuration(microphone: str, speakers: str, source: Words, sink: Words, engine: Words) -> dict[str, Any]:
    """What a configuration file of PipeWire's says, which may be JSON."""
    heard: dict[str, Any] = {"target.object": microphone.removesuffix(MONITOR)}
    if microphone.endswith(MONITOR):
        heard["stream.capture.sink"] = True
    arguments = {
        "library.name": "aec/libspa-aec-webrtc",
        "aec.args": engine,
        "audio.rate": RATE_HZ,
        "audio.channels": 1,
        "audio.position": ["MONO"],
        "capture.props": heard,
        "playback.props": {"target.object": speakers},
        "source.props": source,
        "sink.props": sink,
    }
    canceller = {"name": MODULE, "args": arguments}
    return {
        "context.properties": {},
        "context.spa-libs": LIBRARIES,
        "context.modules": [REALTIME, *({"name": name} for name in CLIENT), canceller],
    }
