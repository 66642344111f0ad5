"""Sound files and folders of them, filtered by one call from Python.

These are the package's public functions for files. They run in any thread of any program, redirect nothing, and leave
no half-written output; the work itself is done by `rtdenoise.io.pipeline` and `rtdenoise.io.batch`.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rtdenoise.arguments import LOUDNESS, LOW_CUT, TRACKS
from rtdenoise.errors import UsageError
from rtdenoise.io.batch import filter_jobs, find_jobs
from rtdenoise.io.executors import Futures
from rtdenoise.io.jobs import FileOutcome
from rtdenoise.io.pipeline import FileReport, Progress, Settings, filter_sound
from rtdenoise.io.remote import here_and_elsewhere, is_remote, look
from rtdenoise.io.shard import Shard

if TYPE_CHECKING:
    from rtdenoise.geometry import Latency


def denoise_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: str | Path | None = None,
    strength_db: float | None = None,
    latency: Latency = "normal",
    overwrite: bool = False,
    track: int | Literal["all"] | None = None,
    audio_codec: str | None = None,
    loudness_lufs: float | None = None,
    low_cut_hz: float | None = None,
    progress: Progress | None = None,
) -> FileReport:
    """Filter a sound file into another one, sample-aligned and of the same duration.

    Memory stays constant whatever the duration. The output appears under its name only once it is complete: if anything
    goes wrong, what was there before is still there.

    Parameters
    ----------
    source : str or path-like
        File to read: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, CAF and others, 8 000 to 192 000 Hz, 1 to 8 channels; with
        the extra ``media`` also MP4, MOV, MKV, WebM, M4A and others.
    target : str or path-like
        File to write, in the format of its extension. It keeps the source's rate, channels, tags and, where the format
        has it, bit depth. If both are films, picture, subtitles, chapters and all other tracks are copied.
    model : str or Path, optional
        Name of a shipped model (see `list_models`) or path of an ONNX file. The default is ``"studio"``, which takes
        longer to answer than that of a stream, and sounds better.
    strength_db : float, optional
        Attenuation limit in dB: 0 leaves the sound untouched, None sets no limit.
    latency : {"normal", "low"}, optional
        Synthesis window. ``"low"`` gives the sound that a low-latency stream has; nothing is late in either.
    overwrite : bool, optional
        Whether an existing ``target`` may be replaced.
    track : int or "all", optional
        Audio track of a film to filter, from 1 on. The default is the film's own default track.
    audio_codec : str, optional
        How the filtered sound of a film is encoded, ``"aac"`` or ``"opus"`` for instance. The default is as it was.
    loudness_lufs : float, optional
        Integrated loudness of the output (EBU R 128) in LUFS, -40 to -5, with true peaks of at most -1 dBTP. It needs
        the extra ``media``. The default leaves the level as it is.
    low_cut_hz : float, optional
        60 to 120: also attenuate what lies below this frequency, in Hz. None cuts nothing.
    progress : callable, optional
        Called as ``progress(done_s, total_s)`` about once per second of sound, in the calling thread; ``total_s`` is
        None where the duration is not known. An exception that it raises ends the work and passes through.

    Returns
    -------
    FileReport
        Duration, speed, and what a listener should know of either file.

    Raises
    ------
    UsageError
        If ``source`` does not exist, ``target`` exists and ``overwrite`` is false, or a setting is out of range.
    AudioFileError
        If a file cannot be read or written.
    ModelError
        If the model cannot be trusted, or fails.

    See Also
    --------
    denoise_folder : All sound files of a folder.
    denoise : An array.

    Examples
    --------
    >>> report = denoise_file("noisy.wav", "clean.flac", strength_db=18)    # doctest: +SKIP
    >>> print(f"{report.seconds:.1f} s, {report.speed:.0f} times real time")    # doctest: +SKIP
    8.0 s, 27 times real time
    """
    ends = _file_name(source), _file_name(target)
    same = os.path.exists(ends[0]) and os.path.exists(ends[1]) and os.path.samefile(*ends)
    if not overwrite and not same and (look(ends[1]) if is_remote(ends[1]) else os.path.isfile(ends[1])):
        raise UsageError(f"{ends[1]} exists; give the output another name, or set overwrite")
    settings = _settings(model, strength_db, latency, track, audio_codec, loudness_lufs, low_cut_hz)
    return filter_sound(*ends, settings, progress=progress)


def denoise_folder(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: str | Path | None = None,
    strength_db: float | None = None,
    latency: Latency = "normal",
    overwrite: bool = False,
    track: int | Literal["all"] | None = None,
    audio_codec: str | None = None,
    loudness_lufs: float | None = None,
    low_cut_hz: float | None = None,
    jobs: int = 1,
    shard: tuple[int, int] | None = None,
    executor: concurrent.futures.Executor | None = None,
    progress: Callable[[FileOutcome], object] | None = None,
) -> list[FileOutcome]:
    """Filter every sound file below a folder into the same tree below another one.

    A file that fails is reported and the rest goes on. A run that was stopped can be repeated: an output that is no
    older than its input is skipped.

    Parameters
    ----------
    source : str or path-like
        Folder to read, with all below it. Hidden files are left alone, and links to folders are not followed.
    target : str or path-like
        Folder to write, made if it does not exist. It may lie inside ``source``.
    model, strength_db, latency, track, audio_codec, loudness_lufs, low_cut_hz
        As for `denoise_file`.
    overwrite : bool, optional
        Whether outputs that are no older than their inputs are made again.
    jobs : int, optional
        Number of worker processes. With 1, the default, the calling thread does the work itself.
    shard : (int, int), optional
        Filter only share ``k`` of ``n``, given as ``(k, n)`` and counted from 1: by a hash of each file name, so ``n``
        machines do all of a folder between them, and none the same file.
    executor : concurrent.futures.Executor, optional
        Where the files are filtered, in place of ``jobs``: a pool of threads or processes, or a cluster's, such as
        Dask's ``client.get_executor()``. Its workers must see the same files, under the same names. It stays open.
    progress : callable, optional
        Called as ``progress(outcome)`` with every `FileOutcome` as it comes, in the calling thread. An exception that
        it raises ends the work, worker processes included, and passes through.

    Returns
    -------
    list of FileOutcome
        One for every file, in the order in which they were done.

    Raises
    ------
    UsageError
        If ``source`` is no folder or holds no sound file, if an output would replace an input, or if a setting is out
        of range.
    ModelError
        If the model cannot be trusted. No file has been touched then.

    See Also
    --------
    denoise_file : One file.

    Examples
    --------
    >>> outcomes = denoise_folder("recordings", "clean", jobs=4)    # doctest: +SKIP
    >>> [outcome.error for outcome in outcomes if outcome.error]    # doctest: +SKIP
    []
    """
    if jobs < 1:
        raise UsageError(f"{jobs} jobs; give 1 or more")
    if not (os.path.isdir(source) or is_remote(os.fspath(source))):
        raise UsageError(f"{os.fspath(source)} is no folder; check the name, or filter a file with denoise_file")
    if executor is not None and jobs != 1:
        raise UsageError("jobs and executor both say where files are filtered; give one of them")
    ends = os.fspath(source), os.fspath(target)
    if executor is not None:  # whose workers may have another working folder
        ends = here_and_elsewhere(ends[0]), here_and_elsewhere(ends[1])
    found = find_jobs(*ends, overwrite, Shard(*shard) if shard else None)
    settings = _settings(model, strength_db, latency, track, audio_codec, loudness_lufs, low_cut_hz)
    if executor is not None:
        return filter_jobs(found, settings.elsewhere(), Futures(executor), progress)
    return filter_jobs(found, settings, jobs, progress)


def _settings(
    model: str | Path | None,
    strength_db: float | None,
    latency: Latency,
    track: int | Literal["all"] | None,
    audio_codec: str | None,
    loudness_lufs: float | None,
    low_cut_hz: float | None,
) -> Settings:
    if track not in (None, "all"):
        TRACKS.check("track", track)
    for name, value, allowed in (("loudness_lufs", loudness_lufs, LOUDNESS), ("low_cut_hz", low_cut_hz, LOW_CUT)):
        if value is not None:
            allowed.check(name, value)
    return Settings(
        model,
        strength_db,
        latency,
        track=track,
        audio_codec=audio_codec,
        loudness_lufs=loudness_lufs,
        low_cut_hz=low_cut_hz,
    )


def _file_name(path: str | os.PathLike[str]) -> str:
    """The name of a file, also where a command line would mean a pipe by it."""
    name = os.fspath(path)
    return os.path.join(os.curdir, name) if name == "-" else name
