"""What the ends of a request, ``--in`` and ``--out``, mean: a device, a file, a folder or a pipe."""

from __future__ import annotations

import os
from typing import Literal

from rtdenoise.arguments import VIRTUAL_MIC, VIRTUAL_SPEAKER
from rtdenoise.errors import UsageError
from rtdenoise.io.remote import is_folder, is_remote

Kind = Literal["live", "folder", "manifest", "file"]  # A pipe counts as a file.
DEVICES = ("mic", "microphone", "speakers", "speaker", "default", VIRTUAL_MIC, VIRTUAL_SPEAKER)
# The longest suffix of a sound file is ".aiff"; what follows the last dot in a device's name is longer, or a number.
LONGEST_SUFFIX = 5
LONGEST_NUMBER = 3  # A device's number has at most three digits; a longer one may be a folder named after a year.


def kind_of(source: str, target: str) -> Kind:
    """Live if an end is a sound device: by alias or number, or because it does not look like a file beside one that
    does."""
    ends = source, target
    folder = os.path.isdir(source) or is_folder(source)
    if any(map(is_device, ends)) or not (all(map(is_file, ends)) or folder or "-" in ends):
        return "live"
    return "folder" if folder else "file"


def is_device(end: str) -> bool:
    """Whether this end means a device, whatever files there are; ``./mic`` is a file."""
    return end in DEVICES or (end.isdecimal() and len(end) <= LONGEST_NUMBER)


def is_file(end: str) -> bool:
    """Whether this end can only mean a file, a folder or a pipe."""
    suffix = os.path.splitext(end)[1]
    has_suffix = suffix[1:2].isalpha() and len(suffix) <= LONGEST_SUFFIX
    return not is_device(end) and (end == "-" or is_remote(end) or os.path.exists(end) or os.sep in end or has_suffix)


def is_live_file(end: str) -> bool:
    """Whether this end of a live request is a sound file: a folder here may happen to have the name of a device."""
    return is_file(end) and not is_remote(end) and (os.sep in end or not os.path.isdir(end))


def refuse_wrong_side(source: str | None, target: str | None) -> None:
    """UsageError for a virtual device on the side where it is no end."""
    if source == VIRTUAL_MIC:
        raise UsageError("virtual-mic is what other programs record: use it as --out; as --in name mic or a device")
    if target == VIRTUAL_SPEAKER:
        raise UsageError("virtual-speaker is what other programs play to: use it as --in; as --out name speakers")
