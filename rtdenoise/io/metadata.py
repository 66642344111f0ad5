"""What a sound file says beside its sound: title and artist, markers, descriptions, and which channel is which.

Output lies sample by sample over the input, so places in time hold, and chunks travel as they are. Whatever an output
of another format cannot hold is named.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO, TYPE_CHECKING

from rtdenoise.io.chunks import Chunk, Layout

if TYPE_CHECKING:
    import soundfile

TAGS = ("title", "artist", "album", "date", "genre", "tracknumber", "comment", "copyright", "license")
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES = 1 << 24  # All chunks together wait in memory until the sound is written.
# Chunks that describe the old samples or the old file, and (from NAME on) texts that libsndfile writes itself.
_STAY_BEHIND = set(
    "fmt_ data fact ds64 JUNK junk PAD_ FLLR PEAK levl MD5_ r64m COMM SSND FVER NAME AUTH ANNO (c)_".split()
)
_IN_WORDS = {
    "bext": "broadcast description (bext)",
    "cue_": "cue markers",
    "MARK": "markers",
    "smpl": "loops",
    "INST": "loops",
}
_FAMILIES = {  # Containers whose chunks are of one make, by what the file begins with.
    b"RIFF": ("WAV", "WAVEX", "RF64"),
    b"RF64": ("WAV", "WAVEX", "RF64"),
    b"RIFX": ("WAV",),
    b"FORM": ("AIFF",),
}


@dataclass(frozen=True)
class Metadata:
    """``tags`` are texts that any format may hold, ``chunks`` belong to files of ``kind``. ``channel_mask`` says which
    loudspeaker each channel is for, as WAV has it."""

    tags: dict[str, str] = field(default_factory=dict)
    kind: bytes = b""
    chunks: list[tuple[bytes, bytes]] = field(default_factory=list)
    channel_mask: int | None = None
    lost: list[str] = field(default_factory=list)  # what not even an output of the same format will hold

    def fits(self, container: str, big_endian: bool) -> bool:
        """Whether an output of this container takes the chunks."""
        return container in _FAMILIES.get(self.kind, ()) and big_endian == (self.kind in (b"RIFX", b"FORM"))

    def lost_in(self, path: str, fits: bool) -> list[str]:
        """A line on what the output at ``path`` does not hold of all this, if anything."""
        names = [name.decode("latin-1").replace(" ", "_") for name, _ in self.chunks if not fits]
        lost = self.lost + [_IN_WORDS.get(name, name) for name in names if name not in ("LIST", "id3_", "ID3_")]
        if not lost:
            return []
        way = "" if fits or not names else f"; write {'.aiff' if self.kind == b'FORM' else '.wav'} to keep them"
        return [f"{PurePath(path).suffix} holds no {', '.join(dict.fromkeys(lost))} of the input{way}"]

    @property
    def chunk_bytes(self) -> int:
        """Room that the chunks take in a file."""
        return sum(8 + len(body) + len(body) % 2 for _, body in self.chunks)

    def complete(self, file: IO[bytes], fits: bool) -> None:
        """Put the channel mask, and the chunks where they fit, into a finished output."""
        file.seek(0)
        kind = file.read(4)
        order = ">" if kind in (b"RIFX", b"FORM") else "<"
        if self.channel_mask is not None and kind in _FAMILIES:
            _set_mask(file, order, self.channel_mask)
        if not (fits and self.chunks):
            return
        end = file.seek(0, 2)
        file.write(bytes(end % 2))
        for name, body in self.chunks:
            file.write(name + struct.pack(order + "I", len(body)) + body + bytes(len(body) % 2))
        size = file.tell() - 8
        if kind == b"RF64":
            file.seek(20)
            file.write(struct.pack("<Q", size))
        else:
            file.seek(4)
            file.write(struct.pack(order + "I", size))


def read_metadata(path: str, file: soundfile.SoundFile, layout: Layout | None) -> Metadata:
    """Metadata of an open sound file, and of the chunks in its ``layout``."""
    tags = text_tags(file)
    if layout is None or layout.kind not in _FAMILIES:
        return Metadata(tags)
    chunks, mask, lost, room = [], None, [], _MOST_BYTES
    with open(path, "rb") as raw:
        for chunk in layout.chunks:
            name = chunk.name.decode("latin-1").replace(" ", "_")
            if name == "fmt_":
                mask = _mask(_body(raw, chunk), layout)
            if name in _STAY_BEHIND or not name.isprintable() or not chunk.size or chunk.at + chunk.size > layout.end:
                continue
            if chunk.size > room:
                lost.append(_IN_WORDS.get(name, name))
                continue
            room -= chunk.size
            chunks.append((chunk.name, _in_utf8(_body(raw, chunk), layout.big_endian)))
    return Metadata(tags, layout.kind, chunks, mask, lost)


def text_tags(file: soundfile.SoundFile) -> dict[str, str]:
    """Tags of an open file. Text that is not UTF-8 is taken for the Windows code page that old taggers wrote."""
    found = file.copy_metadata()
    return {tag: _text(file, tag, found[tag]) for tag in TAGS if found.get(tag)}


def _text(file: soundfile.SoundFile, tag: str, text: str) -> str:
    if _UNREADABLE not in text:
        return text
    import soundfile

    # soundfile offers the text only, in which the bytes are lost already.
    return _decoded(soundfile._ffi.string(soundfile._snd.sf_get_string(file._file, soundfile._str_types[tag])))


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace").replace(_UNREADABLE, "")


def _body(file: IO[bytes], chunk: Chunk) -> bytes:
    file.seek(chunk.at)
    return file.read(min(chunk.size, _MOST_BYTES))


def _mask(form: bytes, layout: Layout) -> int | None:
    if len(form) < 40:
        return None
    order = ">" if layout.big_endian else "<"
    (tag, mask) = (*struct.unpack_from(order + "H", form), *struct.unpack_from(order + "I", form, 20))
    return int(mask) if tag == 0xFFFE else None


def _set_mask(file: IO[bytes], order: str, mask: int) -> None:
    """Where the format chunk has a channel mask, replace it."""
    file.seek(0)
    head = file.read(256)
    at = head.find(b"fmt ") + 8
    if at >= 8 and struct.unpack_from(order + "H", head, at)[0] == 0xFFFE:
        file.seek(at + 20)
        file.write(struct.pack(order + "I", mask))


def _in_utf8(body: bytes, big_endian: bool) -> bytes:
    """A list of texts (INFO) in UTF-8, which is what is expected today; other chunks as they are."""
    if not body.startswith(b"INFO"):
        return body
    order = ">" if big_endian else "<"
    texts = b"INFO"
    for name, text in _info(body, order):
        text = _decoded(text.rstrip(b"\0")).encode() + b"\0"
        texts += name + struct.pack(order + "I", len(text)) + text + bytes(len(text) % 2)
    return texts


def _info(body: bytes, order: str) -> Iterator[tuple[bytes, bytes]]:
    at = 4
    while at + 8 <= len(body):
        (size,) = struct.unpack_from(order + "I", body, at + 4)
        yield body[at : at + 4], body[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
