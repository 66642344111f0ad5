"""What a sound file says beside its sound: title, artist and the like."""

from __future__ import annotations

import soundfile

_TAGS = ("title", "artist", "album", "date", "genre", "tracknumber", "comment", "copyright", "license")
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"


def text_tags(file: soundfile.SoundFile) -> dict[str, str]:
    """Tags of an open file. Text that is not UTF-8 is taken for the Windows code page that old taggers wrote."""
    found = file.copy_metadata()
    return {tag: _decoded(file, tag, found[tag]) for tag in _TAGS if found.get(tag)}


def _decoded(file: soundfile.SoundFile, tag: str, text: str) -> str:
    if _UNREADABLE not in text:
        return text
    # soundfile offers the text only, in which the bytes are lost already.
    raw = soundfile._ffi.string(soundfile._snd.sf_get_string(file._file, soundfile._str_types[tag]))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace").replace(_UNREADABLE, "")
