"""Files in buckets and on web servers, by fsspec: at hand as local files while they are filtered.

    s3://bucket/a.wav ──download──▶ a folder of our own: a.wav ─▶ filter ─▶ out/a.wav ──upload──▶ gs://bucket/a.wav

Owns the extra `remote`, which is loaded here, and what its errors mean. Memory does not grow with a file. An upload is
seen under its name only once it is whole, which the stores themselves see to.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from rtdenoise.errors import AudioFileError, RtdenoiseError, UsageError
from rtdenoise.io.scratch import scratch

_REMOTE = re.compile(r"(s3|gs|https?)://[^/]", re.IGNORECASE)
_PART_BYTES = 8 << 20  # of an upload; two of them are in memory
_HOMES = "rtdenoise-remote-"


class Entry(NamedTuple):
    """What a store says of a file; the time is 0 where it does not say it."""

    size_bytes: int
    changed_ns: int


def is_remote(path: str) -> bool:
    """Whether a name is a URL rather than one of this machine's files."""
    return bool(_REMOTE.match(path))


def is_folder(url: str) -> bool:
    """Whether a URL means all that begins so: there are no folders that one could ask about."""
    return is_remote(url) and not posixpath.splitext(_path(url))[1]


def here_and_elsewhere(path: str) -> str:
    """A name that means the same in a process with another working folder."""
    return path if is_remote(path) else os.path.abspath(path)


def joined(folder: str, name: str) -> str:
    """A name below a folder, here or elsewhere."""
    if not is_remote(folder):
        return os.path.join(folder, name)
    return f"{folder.rstrip('/')}/{name.replace(os.sep, '/')}"


def name_below(url: str) -> str:
    """Where a file from elsewhere is put below an output folder: under its host or bucket, and its path there."""
    host = re.split("[/?#]", url.partition("://")[2])[0]
    return plain(f"{host.replace(':', '_').rpartition('@')[2]}/{_path(url)}")


def _path(url: str) -> str:
    """What follows the host or bucket: a key, in which every character counts, or the path of a web address."""
    if url.lower().startswith("http"):
        return unquote(urlsplit(url).path).lstrip("/")
    return url.partition("://")[2].partition("/")[2]


def look(url: str) -> Entry | None:
    """What is there; None if nothing is. RtdenoiseError if the store cannot be asked."""
    with _told(url):
        try:
            return _entry(_store(url).info(url))
        except FileNotFoundError:
            return None


def find(folder: str) -> Iterator[tuple[str, str, Entry]]:
    """What follows the folder, URL and entry of each file, in the order of their names."""
    if folder.lower().startswith("http"):
        raise UsageError(f"{folder}: web servers do not list their files; name them in a manifest")
    prefix = folder.rstrip("/") + "/"
    scheme = folder.partition("://")[0]
    with _told(folder):
        found = _store(folder).find(prefix, detail=True)
    inside = len(prefix.partition("://")[2])
    for path in sorted(found):
        yield path[inside:], f"{scheme}://{path}", _entry(found[path])


def plain(name: str) -> str:
    """A key as the name of a file here; UsageError for one that leads elsewhere, ``a/../../b`` for instance."""
    plain = posixpath.normpath(name.lstrip("/"))
    if plain.startswith("../") or plain == "..":
        raise UsageError(f"{name} would lie outside the output folder")
    return plain.replace("/", os.sep)


def _entry(info: dict[str, Any]) -> Entry:
    if info.get("type") == "directory":
        raise FileNotFoundError
    changed = info.get("LastModified") or info.get("mtime") or info.get("updated") or 0
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed.replace("Z", "+00:00"))
    seconds = changed.timestamp() if isinstance(changed, datetime) else float(changed)
    return Entry(int(info.get("size") or 0), int(seconds * 1e9))


@contextmanager
def at_hand(source: str, target: str) -> Iterator[tuple[str, str]]:
    """Names of local files that stand for both ends. The target goes where it belongs at the end of the block, and
    nowhere if the block fails; errors speak of the ends by their own names."""
    if target.lower().startswith("http"):
        raise UsageError(f"{target}: web servers are only read from; write to a file, s3:// or gs://")
    if source == target:
        raise UsageError(f"{target} is the input itself; give the output another name")
    with scratch(_HOMES) as home:
        ends = [_stand_in(os.path.join(home, side), url) for side, url in (("in", source), ("out", target))]
        if is_remote(source):
            _download(source, ends[0])
        with _named({ends[0]: source, ends[1]: target}):
            yield ends[0], ends[1]
        if is_remote(target):
            _upload(ends[1], target)


@contextmanager
def brought(source: str) -> Iterator[str]:
    """The name of a local file that holds a source, for the block; errors speak of it by its own name."""
    if not is_remote(source):
        yield source
        return
    with scratch(_HOMES) as home:
        path = _stand_in(os.path.join(home, "in"), source)
        _download(source, path)
        with _named({path: source}):
            yield path


@contextmanager
def _named(names: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except RtdenoiseError as problem:
        text = str(problem)
        for stand_in, name in names.items():
            text = text.replace(stand_in, name)
        raise type(problem)(text) from problem


def _stand_in(folder: str, name: str) -> str:
    if not is_remote(name):
        return name
    os.mkdir(folder)
    return os.path.join(folder, posixpath.basename(_path(name)) or "sound")


def _download(url: str, path: str) -> None:
    with _told(url):
        store = _store(url)
        size = store.info(url).get("size")
        store.get_file(url, path)
    if size is not None and os.path.getsize(path) != size:
        raise AudioFileError(f"{url}: only {os.path.getsize(path)} of {size} bytes came; try again")


def _upload(path: str, url: str) -> None:
    with _told(url, "write"):
        _store(url).put_file(path, url, chunksize=_PART_BYTES, max_concurrency=1)


def _store(url: str) -> Any:
    """What fsspec has for a URL. It lives as long as this process, as its connections do."""
    scheme = url.partition("://")[0].lower()
    try:
        import fsspec

        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as missing:
        extra = "gcsfs" if scheme == "gs" else "'rtdenoise[remote]'"
        raise RtdenoiseError(f"{scheme}:// needs what is not installed; install it: pip install {extra}") from missing


@contextmanager
def _told(url: str, verb: str = "read") -> Iterator[None]:
    """Each library says the same in its own way; here it is one line."""
    try:
        yield
    except RtdenoiseError:
        raise
    except FileNotFoundError as problem:
        what = "there is no such bucket" if verb == "write" else "it is not there"
        raise AudioFileError(f"cannot {verb} {url}: {what}; check the name") from problem
    except PermissionError as problem:
        raise AudioFileError(f"cannot {verb} {url}: access denied; check what your credentials allow") from problem
    except Exception as problem:
        if "Credentials" in type(problem).__name__:
            raise AudioFileError(
                f"cannot {verb} {url}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or for a "
                "public bucket FSSPEC_S3_ANON=true"
            ) from problem
        why = f"{problem}".partition("\n")[0] or type(problem).__name__
        raise AudioFileError(
            f"cannot {verb} {url}: {why}; check the address and the network, and try again"
        ) from problem
