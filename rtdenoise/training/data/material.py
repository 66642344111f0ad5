"""What training learns from: the clips of folders, of manifests, and of either in a bucket.

    speech/                every audio file below it, or what a manifest.csv in it names; one above it is heeded too
    speech.jsonl           JSON Lines with the key audio_filepath, as NeMo and lhotse write them
    s3://bucket/speech     every audio file whose name begins so; s3://bucket/speech.jsonl is a manifest there

Owns what is a clip, and its split into training and development clips. Knows nothing about decoding.
"""

from __future__ import annotations

import csv
import math
import posixpath
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from rtdenoise.errors import UsageError
from rtdenoise.io.manifest import read_entries
from rtdenoise.io.remote import brought, find, is_remote, joined
from rtdenoise.io.report import PATH

Kind = Literal["speech", "noise", "rir"]
Place = Path | str  # A string is a URL, which is no path: "s3://a" would become "s3:/a".
AUDIO_SUFFIXES = {".wav", ".flac", ".opus", ".ogg", ".mp3", ".aiff", ".aif"}
_MANIFEST = ".jsonl"
_TABLE, _COLUMNS = "manifest.csv", {"path", "kind", "source", "who", "nc"}
# Clips whose name hashes to this remainder, about 4 % of the audio, are kept out of training.
DEV_SHARE, DEV_REST = 20, 9


@dataclass(frozen=True)
class Clip:
    """An audio file, or ``seconds`` of it from ``begin_s`` on: where it is, its collection, and its speaker or kind of
    noise (column ``who`` of a manifest.csv). ``url``: it lies elsewhere, and ``path`` is no more than its name."""

    path: Path
    source: str
    speaker: str
    begin_s: float = 0.0
    seconds: float | None = None
    url: str | None = None
    size_bytes: int = 0  # of what lies elsewhere, if its store has said so

    @property
    def is_dev(self) -> bool:
        """Kept out of training, to choose between checkpoints: fixed by its name, so it never changes sides."""
        return zlib.crc32(f"{self.source}/{self.speaker}".encode()) % DEV_SHARE == DEV_REST

    @property
    def stamp(self) -> list[str | float | None]:
        """What a bank knows it by: another file under the same name has another size."""
        whole = self.begin_s == 0 and self.seconds is None
        part = [] if whole else [self.begin_s, self.seconds]
        if self.url:
            return [self.url, self.size_bytes, *part]
        return [str(self.path), self.path.stat().st_size if self.path.exists() else 0, *part]

    @contextmanager
    def at_hand(self) -> Iterator[Path]:
        """A local file that holds it, for the block."""
        if self.url is None:
            yield self.path
            return
        with brought(self.url) as path:
            yield Path(path)


def place(text: str) -> Place:
    """A folder or manifest, here or elsewhere, by its name."""
    return text if is_remote(text) else Path(text)


def find_material(of: Place, kind: Kind) -> list[Clip]:
    """The clips of a folder or manifest, here or elsewhere."""
    if str(of).lower().endswith(_MANIFEST):
        return list(_of_manifest(of))
    if isinstance(of, str):
        found = [(url, entry.size_bytes) for _, url, entry in find(of)]
        sounds = [(url, size) for url, size in found if posixpath.splitext(url)[1].lower() in AUDIO_SUFFIXES]
        return [_clip_elsewhere(url, size_bytes=size) for url, size in sounds]
    return find_clips(of, kind)


def find_clips(folder: Path, kind: Kind, nc: str = "0") -> list[Clip]:
    """Clips of a folder. A ``manifest.csv`` in it (path, kind, source, who, nc) names them; of its rows, those with
    nc = 1 (non-commercial) are to choose by, never to train on. Without one, every audio file below the folder counts,
    but for those that a manifest of a folder above lists with another nc.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give a folder with audio files, or a {_MANIFEST} manifest")
    if says_kinds(folder):
        rows = [r for r in _rows(folder) if r["kind"] == kind and r["nc"] == nc]
        return [Clip(folder / r["path"], r["source"], r["who"]) for r in rows]
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    above = next(filter(says_kinds, folder.resolve().parents), None)
    listed = {(above / r["path"]).resolve(): r for r in _rows(above)} if above else {}
    found = [(p, listed.get(p.resolve(), {"source": p.parent.name, "who": p.stem, "nc": nc})) for p in files]
    return [Clip(p, row["source"], row["who"]) for p, row in found if row["nc"] == nc]


def says_kinds(of: Place) -> bool:
    """Whether it is a folder with a ``manifest.csv`` that tells speech from noise; that of `rtdenoise mix` does not."""
    if isinstance(of, str):
        return False
    try:
        with (of / _TABLE).open(newline="", encoding="utf-8-sig") as file:
            return set(next(csv.reader(file), ())) >= _COLUMNS
    except (OSError, ValueError, csv.Error):  # Above a folder may lie anything of that name.
        return False


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / _TABLE).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _of_manifest(of: Place) -> Iterator[Clip]:
    """Paths are against the manifest's folder. ``speaker`` says who speaks; without it each file is a voice."""
    with brought(str(of)) as path:
        for number, fields in read_entries(path):
            where, name = f"{of}, line {number}", fields.get(PATH)
            if not isinstance(name, str) or not name or "\0" in name:
                raise UsageError(f"{where} is no JSON object with {PATH}, the name of a sound file; mend or remove it")
            said: dict[str, Any] = {
                "begin_s": _seconds(fields.get("offset"), 0.0, where),
                "seconds": _seconds(fields.get("duration"), None, where),
            }
            if fields.get("speaker"):
                said["speaker"] = str(fields["speaker"])
            if is_remote(name):
                yield _clip_elsewhere(name, **said)
            elif isinstance(of, str):
                yield _clip_elsewhere(joined(posixpath.dirname(of), name), **said)
            else:
                here = of.parent / name
                yield Clip(here, here.parent.name, **({"speaker": here.stem} | said))


def _seconds(value: Any, without: float | None, where: str) -> float | None:
    if value is None:
        return without
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise UsageError(f"{where}: {value!r} is no number of seconds; mend or remove it")
    return float(value)


def _clip_elsewhere(url: str, **said: Any) -> Clip:
    path = PurePosixPath(url.partition("://")[2].partition("?")[0])
    return Clip(Path(path), path.parent.name, url=url, **({"speaker": path.stem} | said))
