"""One sound from a source through a Denoiser into a sink, sample-aligned and of equal length.

This module owns the latency: the first ``latency_samples`` that leave the Denoiser are dropped and its tail is flushed,
so the output is sample-aligned with the input. Files and pipes meet here; it knows nothing of their formats.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rtdenoise import signals
from rtdenoise.errors import AudioFileError, UsageError
from rtdenoise.io.ends import Sink, Source, open_sinks, open_sources
from rtdenoise.io.pipes import RawFormat, is_stream
from rtdenoise.io.remote import at_hand, is_remote

if TYPE_CHECKING:
    from rtdenoise.core.denoiser import Denoiser
    from rtdenoise.geometry import Latency
    from rtdenoise.io.loudness import Levelled

_MOST_IDLE = 4  # At most this many idle denoisers are kept for files to come; each takes some megabytes.
# Beside each stands what it was made for; the last used comes first.
_idle: list[tuple[tuple[object, ...], Denoiser]] = []
_lending = threading.Lock()

Progress = Callable[[float, float | None], None]  # It gets the seconds done, and those in all or None.


@dataclass(frozen=True)
class Settings:
    """How to filter, whatever the rate and channels. Travels to worker processes."""

    model: str | Path | None = None  # None is the default for files, or for pipes where the sound comes or goes by one
    strength_db: float | None = None
    latency: Latency = "normal"
    bypass: bool = False
    learn_noise_s: float = 0.0  # the sound's beginning, noise alone, to be heard before any of it is filtered
    track: int | str | None = None  # Of a film: a number from 1 on, "all", or the default one
    audio_codec: str | None = None  # of a film's output: an encoder; None is as it was
    loudness_lufs: float | None = None  # of the whole output; None leaves it as it is
    low_cut_hz: float | None = None

    def elsewhere(self) -> Settings:
        """The same for a process with another working folder."""
        return replace(self, model=os.path.abspath(self.model)) if self.model and os.path.isfile(self.model) else self

    def for_pipes(self) -> Settings:
        """The same with the model that answers sooner, unless another is given: somebody may listen at the end."""
        from rtdenoise.model.registry import DEFAULT_MODEL

        return replace(self, model=self.model or DEFAULT_MODEL)


class Filtered(Protocol):
    """A sound that has been filtered elsewhere, and what came of that."""

    nonfinite: int
    work_seconds: float

    def blocks(self, rate: int, channels: int) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class FileReport:
    """What filtering one sound file came to.

    Attributes
    ----------
    source, target : str
        The files that were read and written.
    rate : int
        Samples a second, in Hz.
    channels : int
        Number of channels.
    seconds : float
        Duration of the sound, in s.
    work_seconds : float
        How long filtering took once the model was loaded, in s.
    latency_ms : float
        Latency of the filter, which has been removed from the output, in ms.
    clipped : int
        Output samples that were louder than full scale and were held there.
    nonfinite : int
        Input samples that were NaN, infinite or beyond +120 dBFS, and were taken as zero.
    damaged : bool
        Whether some of the input's sound is lost. A warning says what.
    warnings : list of str
        What a listener should know, one line each.
    loudness_lufs : float or None
        Integrated loudness of the output (EBU R 128), in LUFS; None if none was asked for, or it cannot be measured.
    """

    source: str
    target: str
    rate: int
    channels: int
    seconds: float
    work_seconds: float
    latency_ms: float
    clipped: int
    nonfinite: int
    damaged: bool = False
    warnings: list[str] = field(default_factory=list)
    loudness_lufs: float | None = None

    @property
    def speed(self) -> float:
        """How many times faster than real time the file was filtered, the inverse of the RTF."""
        return self.seconds / self.work_seconds

    def as_json(self) -> dict[str, Any]:
        """Return the fields as the command line prints them with ``--json``.

        Returns
        -------
        dict
            Keys ``in`` and ``out`` for the files, and all other fields under their own names.
        """
        fields = asdict(self)
        if self.loudness_lufs is None:
            del fields["loudness_lufs"]
        return {"in": fields.pop("source"), "out": fields.pop("target"), **fields, "speed": round(self.speed, 2)}


def filter_sound(
    source_path: str,
    target_path: str,
    settings: Settings,
    raw: RawFormat | None = None,
    progress: Progress | None = None,
    filtered: Filtered | None = None,
) -> FileReport:
    """Filter one file, URL or pipe ("-") into another and say how it went. Where the sound is ``filtered`` already,
    that is written as the filter's output would be.

    ``raw`` applies to the ends that are pipes. Raises UsageError, AudioFileError or ModelError; the target then does
    not exist, or still holds what it held before. BrokenPipeError means that nobody listens any more.
    """
    if is_remote(source_path) or is_remote(target_path):
        with at_hand(source_path, target_path) as (source_here, target_here):
            report = filter_sound(source_here, target_here, settings, raw, progress, filtered)
        told = [text.replace(source_here, source_path).replace(target_here, target_path) for text in report.warnings]
        return replace(report, source=source_path, target=target_path, warnings=told)
    if _same_file(source_path, target_path):
        raise UsageError(f"{target_path} is the input itself; give the output another name")
    if os.path.isdir(target_path):
        raise UsageError(f"{target_path} is a folder; name a file in it, e.g. {os.path.join(target_path, 'clean.wav')}")
    check_extras(settings)
    if is_stream(source_path) or is_stream(target_path):
        settings = settings.for_pipes()
    with ExitStack() as stack:
        sources = open_sources(source_path, target_path, settings.track, raw, stack)
        denoisers = [stack.enter_context(lent_denoiser(settings, each.rate, each.channels)) for each in sources]
        began, source, denoiser = time.perf_counter(), sources[0], denoisers[0]
        nonfinite_before = 0
        with ExitStack() as outputs:  # the output is put into its place here, and counts as work
            sinks = open_sinks(target_path, sources, settings.audio_codec, raw, outputs)
            held: list[Levelled] = []
            if settings.loudness_lufs is not None:
                held = [outputs.enter_context(h) for h in _held(sources, sinks, settings.loudness_lufs, target_path)]
            ends: Sequence[Sink | Levelled] = held or sinks
            moving = []
            for each, sink, its_denoiser in zip(sources, ends, denoisers, strict=True):
                if filtered is not None:
                    moving.append(_copy(filtered.blocks(each.rate, each.channels), sink))
                    continue
                its_denoiser.expect(each.frames or 0)
                blocks = each.blocks()
                beginning = _learn(blocks, its_denoiser, round(settings.learn_noise_s * each.rate))
                nonfinite_before += its_denoiser.nonfinite_samples
                moving.append(_pump(chain(beginning, blocks), sink, its_denoiser))
            samples = _move(moving, source, progress)
            if not samples:
                raise AudioFileError(f"{source.name} contains no audio (0 samples); record or send it again")
            _move([each.play() for each in held], source, None)
        return FileReport(
            source=source_path,
            target=target_path,
            rate=source.rate,
            channels=source.channels,
            seconds=samples / source.rate,
            work_seconds=round(time.perf_counter() - began + (filtered.work_seconds if filtered else 0), 6),
            latency_ms=denoiser.latency_ms,
            clipped=sum(sink.clipped for sink in sinks),
            nonfinite=filtered.nonfinite
            if filtered
            else sum(each.nonfinite_samples for each in denoisers) - nonfinite_before,
            damaged=any(each.damaged for each in sources),
            warnings=list(
                dict.fromkeys(
                    chain(*(s.warnings for s in sources), *(e.warnings for e in ends), *(s.warnings for s in sinks))
                )
            ),
            loudness_lufs=held[0].lufs if held else None,
        )


def check_extras(settings: Settings) -> None:
    """RtdenoiseError if a setting needs what is not installed."""
    if settings.loudness_lufs is not None:
        from rtdenoise.io.loudness import check_available

        check_available()


def _same_file(a: str, b: str) -> bool:
    """Whether two names, links of any kind included, mean one file. "-" and devices are never a file."""
    if is_stream(a) or not (os.path.exists(a) and os.path.exists(b)):
        return False
    return os.path.samefile(a, b)


@contextmanager
def lent_denoiser(settings: Settings, rate: int, channels: int) -> Iterator[Denoiser]:
    """A Denoiser at the start of its life, nobody else's meanwhile.

    It is kept for the next who wants the same: files of a folder mostly share rate and channels. One that met an error
    is dropped, and one whose model file has changed since is not used again.
    """
    from rtdenoise.model.registry import FILE_MODEL, find_model

    model = find_model(settings.model or FILE_MODEL)
    seen = os.stat(model)
    settled = replace(
        settings, model=None, bypass=False, learn_noise_s=0.0, track=None, audio_codec=None, loudness_lufs=None
    )
    like = settled, os.path.realpath(model), seen.st_mtime_ns, seen.st_size, rate, channels
    with _lending:
        denoiser = next((d for of, d in _idle if of == like), None)
        _idle[:] = [(of, d) for of, d in _idle if d is not denoiser]
    if denoiser is None:
        from rtdenoise.core.denoiser import Denoiser

        adjusted = settings.strength_db, settings.latency, settings.low_cut_hz
        denoiser = Denoiser(model, rate, channels, *adjusted)
    denoiser.bypass = settings.bypass
    denoiser.reset()
    yield denoiser
    with _lending:
        _idle[:] = [(like, denoiser), *_idle[: _MOST_IDLE - 1]]


def _learn(blocks: Iterator[np.ndarray], denoiser: Denoiser, samples: int) -> list[np.ndarray]:
    """Let the denoiser hear the first ``samples``, as if they had come twice; returns the blocks that were read."""
    heard: list[np.ndarray] = []
    while samples > 0 and (block := next(blocks, None)) is not None:
        denoiser.process(block[:samples])
        samples -= len(block)
        heard.append(block)
    return heard


def _held(
    sources: Sequence[Source], sinks: Sequence[Sink], loudness_lufs: float, target_path: str
) -> Iterator[Levelled]:
    from rtdenoise.io.loudness import Levelled  # with an extra of its own

    for source, sink in zip(sources, sinks, strict=True):
        layout = getattr(source, "layout", None)  # Films alone say it.
        yield Levelled(sink, source.name, source.rate, source.channels, layout, loudness_lufs, target_path)


def _pump(blocks: Iterable[np.ndarray], sink: Sink | Levelled, denoiser: Denoiser) -> Iterator[int]:
    """Move all samples of a source; yields how many, block by block."""
    done, late = 0, denoiser.latency_samples
    for block in blocks:
        signals.raise_dropped()
        clean = denoiser.process(block)
        dropped = min(late, len(clean))
        late -= dropped
        sink.write(clean[dropped:])
        done += len(block)
        yield len(block)
    if done:
        sink.write(denoiser.flush()[late:])


def _copy(blocks: Iterable[np.ndarray], sink: Sink | Levelled) -> Iterator[int]:
    """Write samples as they are; yields how many, block by block."""
    for block in blocks:
        signals.raise_dropped()
        sink.write(block)
        yield len(block)


def _move(moving: list[Iterator[int]], source: Source, progress: Progress | None) -> int:
    """Move all sounds, side by side; returns how many samples the first one, of ``source``, had."""
    done = 0
    for first, *_ in zip_longest(*moving, fillvalue=0):
        done += first
        if progress and first:
            progress(done / source.rate, source.frames and source.frames / source.rate)
    return done
