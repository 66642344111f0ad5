"""The sound files at the ends of a live session: one that is played, one that is recorded, or none.

Loads libsndfile only where there is one: sessions between devices do without it, and start sooner.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtdenoise.core.denoiser import Denoiser
from rtdenoise.errors import UsageError
from rtdenoise.live.devices import Device, file_end, find_device, refuse_loop
from rtdenoise.live.echo_canceller import EchoCanceller
from rtdenoise.live.ring import Rings
from rtdenoise.live.virtual_mic import VirtualMicrophone
from rtdenoise.live.virtual_speaker import VirtualSpeaker

if TYPE_CHECKING:
    from rtdenoise.io.sound_source import SoundFileSource
    from rtdenoise.live.player import Player
    from rtdenoise.live.recorder import Recorder


def find_ends(
    input: int | str | Path | VirtualSpeaker | EchoCanceller | None,
    output: int | str | Path | VirtualMicrophone | Device | None,
) -> tuple[SoundFileSource | None, Device, Device]:
    """The file that is to be played, if the input is one, and both ends as devices; nothing is opened but that file.

    Raises `UsageError` for ends that do not go together, and what `find_device` and `SoundFileSource` raise.
    """
    if isinstance(input, Path) and isinstance(output, Path):
        raise UsageError("two files need no live session; use `rtdenoise.denoise_file`")
    source = None
    if isinstance(input, Path):
        from rtdenoise.io.sound_source import SoundFileSource

        source = SoundFileSource(str(input))
        begin = file_end(source.name, source.rate, source.channels)
    else:
        begin = input.device() if isinstance(input, VirtualSpeaker | EchoCanceller) else find_device(input, "input")
    if isinstance(output, VirtualMicrophone):
        end = output.device(begin)
    elif isinstance(output, Device):
        end = output
    else:
        end = file_end(str(output)) if isinstance(output, Path) else find_device(output, "output")
    refuse_loop(begin, end)
    return source, begin, end


class FileEnds:
    """Plays ``source`` and records to ``recording``, where there is one, through ``rings``."""

    def __init__(self, source: SoundFileSource | None, recording: Path | None, rings: Rings, denoiser: Denoiser):
        self._rings, self._denoiser, self._path = rings, denoiser, recording
        self._length = source.frames if source else None
        self._recorder: Recorder | None = None
        self._player: Player | None = None
        if source:
            from rtdenoise.live.player import Player

            self._player = Player(source, rings, denoiser.latency_samples)

    def make_recording(self) -> None:
        """Make the file that is recorded to; `UsageError` or `AudioFileError` if that cannot be."""
        if self._path is not None:
            from rtdenoise.live.recorder import Recorder

            d = self._denoiser
            late = d.latency_samples - d.geometry.hop  # A live filter does not wait for a hop.
            self._recorder = Recorder(self._path, self._rings, d.rate, d.channels, late, self._length)

    def play(self, device_s: float | None) -> None:
        """Begin to play, to a device that holds that much itself."""
        if self._player is not None:
            self._player.device_s = device_s
            self._player.start()

    def record(self) -> None:
        """Begin to record."""
        if self._recorder is not None:
            self._recorder.start()

    def stop_playing(self) -> None:
        """Close the file, played or not. Safe to call twice, as `stop_recording` is."""
        if self._player is not None:
            self._player.stop()

    def stop_recording(self) -> None:
        """Write what is left, and put the file in its place."""
        if self._recorder is not None:
            self._recorder.stop()

    @property
    def heard(self) -> bool:
        """Whether a file was played to its end."""
        return self._player is not None and self._player.finished.is_set()

    @property
    def recording_failed(self) -> bool:
        return self._recorder is not None and self._recorder.problem is not None

    @property
    def recorded_s(self) -> float:
        return self._recorder.seconds if self._recorder else 0.0

    def figures(self) -> dict[str, Any]:
        """The fields of `Stats` that tell of files."""
        return {"recorded_s": self.recorded_s, "file_problem": next(iter(self.problems), None)}

    @property
    def problems(self) -> list[str]:
        return [end.problem for end in (self._player, self._recorder) if end and end.problem]

    @property
    def warnings(self) -> list[str]:
        return [text for end in (self._player, self._recorder) if end for text in end.warnings]
