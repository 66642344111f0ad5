"""What a file says beside its sound travels with it, in place and readable; what the output cannot hold is named."""

import struct

import numpy as np
import pytest
import soundfile

from command import call, pipe, voice, write
from rtdenoise.io import chunks

pytestmark = pytest.mark.slow

BEXT = b"A description".ljust(256, b"\0") + bytes(346) + b"A=PCM,F=16000\r\n"
CUE = struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 4_000, b"data", 0, 0, 4_000)
IXML = "<BWFXML><NOTE>Gespräch</NOTE></BWFXML>".encode()


def chunk(name: bytes, body: bytes, order: str = "<") -> bytes:
    return name + struct.pack(order + "I", len(body)) + body + bytes(len(body) % 2)


LABEL = b"adtl" + chunk(b"labl", struct.pack("<I", 1) + b"Marker\0")


def with_chunks(path, *added: bytes, before: bool = False):
    """The WAV or AIFF file with more chunks, behind its sound or before it."""
    data = path.read_bytes()
    order = ">" if data[:4] in (b"FORM", b"RIFX") else "<"
    body = data[8:12] + b"".join(added) + data[12:] if before else data[8:] + b"".join(added)
    path.write_bytes(data[:4] + struct.pack(order + "I", len(body)) + body)
    return path


def chunks_of(path) -> dict[bytes, bytes]:
    data = path.read_bytes()
    with path.open("rb") as file:
        (layout,) = chunks.layouts(file, 0, len(data))
    return {c.name: data[c.at : c.at + c.size] for c in layout.chunks}


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("samples", [8_000, 8_001])
def test_markers_and_descriptions_are_copied_byte_for_byte(tmp_path, capfd, before, subtype, samples):
    source = write(tmp_path / "a.wav", voice(samples), subtype=subtype)
    wanted = {b"bext": BEXT, b"cue ": CUE, b"iXML": IXML, b"LIST": LABEL, b"zYx1": b"what nobody knows"}
    with_chunks(source, *(chunk(*item) for item in wanted.items()), before=before)
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet") == (0, "", "")
    copied = chunks_of(tmp_path / "b.wav")
    assert {name: copied.get(name) for name in wanted} == wanted
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav")[0], soundfile.read(source)[0], atol=1e-4)


def test_markers_are_copied_in_aiff_and_big_endian_wav(tmp_path, capfd):
    mark = struct.pack(">HHI", 1, 1, 4_000) + b"\x05start"
    source = with_chunks(write(tmp_path / "a.aiff", voice(8_000)), chunk(b"MARK", mark, ">"))
    assert call(capfd, "--in", source, "--out", tmp_path / "b.aiff", "--quiet") == (0, "", "")
    assert chunks_of(tmp_path / "b.aiff")[b"MARK"] == mark
    source = write(tmp_path / "a.wav", voice(8_000), subtype="PCM_16", endian="BIG")
    with_chunks(source, chunk(b"bext", BEXT, ">"))
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet") == (0, "", "")
    assert (tmp_path / "b.wav").read_bytes()[:4] == b"RIFX"
    assert chunks_of(tmp_path / "b.wav")[b"bext"] == BEXT


def test_what_the_output_cannot_hold_is_named(tmp_path, capfd):
    source = with_chunks(write(tmp_path / "a.wav", voice(8_000)), chunk(b"cue ", CUE), chunk(b"iXML", IXML))
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "b.flac", "--quiet")
    assert (code, said.count("\n")) == (0, 1)
    assert "holds no cue markers, iXML of the input; write .wav to keep them" in said


def test_chunks_that_describe_the_old_samples_stay_behind(tmp_path, capfd):
    source = with_chunks(write(tmp_path / "a.wav", voice(8_000)), chunk(b"levl", bytes(200)), chunk(b"MD5 ", bytes(16)))
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet") == (0, "", "")
    assert set(chunks_of(tmp_path / "b.wav")) <= {b"fmt ", b"fact"}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", ["b.wav", "b.flac", "b.ogg", "b.mp3", "b.aiff"])
def test_titles_are_decoded_whatever_tagger_wrote_them(tmp_path, capfd, encoding, name):
    beyond = encoding != "latin-1" and name != "b.mp3"  # libsndfile writes ID3 tags in Latin-1 alone
    title = "Gespräch über Öl" + (" – “€”" if beyond else "")
    info = b"INFO" + chunk(b"INAM", title.encode(encoding) + b"\0") + chunk(b"IART", b"Nobody\0")
    source = with_chunks(write(tmp_path / "a.wav", voice(8_000)), chunk(b"LIST", info))
    assert call(capfd, "--in", source, "--out", tmp_path / name, "--quiet") == (0, "", "")
    with soundfile.SoundFile(tmp_path / name) as file:
        assert (file.title, file.artist) == (title, "Nobody")


def test_texts_that_only_wav_knows_are_kept_in_wav(tmp_path, capfd):
    info = b"INFO" + chunk(b"INAM", b"Title\0") + chunk(b"IENG", "Jörg\0".encode("latin-1"))
    source = with_chunks(write(tmp_path / "a.wav", voice(8_000)), chunk(b"LIST", info))
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet") == (0, "", "")
    assert chunk(b"IENG", "Jörg\0".encode()) in chunks_of(tmp_path / "b.wav")[b"LIST"]


@pytest.mark.parametrize("mask", [0x60F, 0x3F, 0x0, 0x40000003])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_the_channel_mask_is_carried_over(tmp_path, capfd, mask, subtype):
    source = write(tmp_path / "a.wav", voice(8_000, 6), subtype=subtype, format="WAVEX")
    data = bytearray(source.read_bytes())
    struct.pack_into("<I", data, 40, mask)
    source.write_bytes(data)
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet") == (0, "", "")
    assert struct.unpack_from("<I", chunks_of(tmp_path / "b.wav")[b"fmt "], 20)[0] == mask
    piped = pipe(bytes(data), "--in", "-", "--out", "-").stdout
    assert struct.unpack_from("<I", piped, 40)[0] == mask
    (tmp_path / "c.wav").write_bytes(piped)
    assert soundfile.info(tmp_path / "c.wav").format == "WAVEX"
    np.testing.assert_allclose(soundfile.read(tmp_path / "c.wav")[0], soundfile.read(tmp_path / "b.wav")[0], atol=1e-4)
