"""A header that is wrong about the length costs no sound, and what is no sound is not taken for it."""

import struct

import numpy as np
import pytest
import soundfile

from command import call, voice, write
from rtdenoise.io.sound_source import SoundFileSource

SOUND = voice(30_000)
LIST = b"LIST" + struct.pack("<I", 14) + b"INFOINAM" + struct.pack("<I", 2) + b"x\0"


def read_through(path) -> tuple[np.ndarray, SoundFileSource]:
    with SoundFileSource(str(path)) as source:
        return np.concatenate([*source.blocks()]), source


def stale(path, container: str, declared: int | None):
    """A file of 16 bits whose header declares ``declared`` bytes of sound; None: that nobody knows."""
    data = bytearray(write(path, SOUND, subtype="PCM_16", format=container).read_bytes())
    if container == "FLAC":
        assert declared is None
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    elif container == "AU":
        struct.pack_into(">I", data, 8, 0xFFFFFFFF if declared is None else declared)
    elif container == "RF64":
        struct.pack_into("<Q", data, 28, 2**64 - 1 if declared is None else declared)
    elif container == "AIFF":
        struct.pack_into(">I", data, data.find(b"SSND") + 4, declared + 8)
    elif container == "CAF":
        struct.pack_into(">q", data, data.find(b"data") + 4, -1 if declared is None else declared + 4)
    else:
        struct.pack_into("<I", data, data.find(b"data") + 4, 0xFFFFFFFF if declared is None else declared)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("container", ["FLAC", "WAV", "WAVEX", "RF64", "CAF", "AU"])
def test_unknown_length_is_unknown_and_no_reason_to_warn(tmp_path, container):
    reference = soundfile.read(write(tmp_path / "whole", SOUND, subtype="PCM_16", format=container))[0]
    samples, source = read_through(stale(tmp_path / "a", container, None))
    np.testing.assert_allclose(samples[:, 0], reference, atol=1e-7)
    assert (source.warnings, source.damaged) == ([], False)


def test_flac_of_unknown_length_becomes_a_common_wav(tmp_path, capfd):
    source = stale(tmp_path / "a.flac", "FLAC", None)
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet")
    info = soundfile.info(tmp_path / "b.wav")
    assert (code, said, info.format, info.frames) == (0, "", "WAV", len(SOUND))


@pytest.mark.parametrize("declared", [0, 2, 20_000, 20_001, 59_000])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF"])
def test_a_header_older_than_its_sound_does_not_end_the_sound(tmp_path, container, declared):
    reference = soundfile.read(write(tmp_path / "whole", SOUND, subtype="PCM_16", format=container))[0]
    samples, source = read_through(stale(tmp_path / "a", container, declared))
    np.testing.assert_allclose(samples[:, 0], reference, atol=1e-7)
    assert ["older than its sound" in warning for warning in source.warnings] == [True]
    assert not source.damaged


@pytest.mark.parametrize("behind", [LIST, LIST * 3, b"bext" + struct.pack("<I", 602) + bytes(602), b"TAG" + bytes(125)])
@pytest.mark.parametrize("samples", [1_000, 1_001])
def test_chunks_and_tags_behind_the_sound_are_not_taken_for_it(tmp_path, behind, samples):
    path = write(tmp_path / "a.wav", SOUND[:samples], subtype="PCM_U8")
    path.write_bytes(path.read_bytes() + behind)
    heard, source = read_through(path)
    assert (len(heard), source.warnings) == (samples, [])


def test_a_chunk_that_nobody_knows_is_not_taken_for_sound(tmp_path):
    path = write(tmp_path / "a.wav", SOUND)
    path.write_bytes(path.read_bytes() + b"zYx9" + struct.pack("<I", 3_000) + bytes(range(250)) * 12)
    assert len(read_through(path)[0]) == len(SOUND)


def test_zeros_that_pad_the_last_sector_are_no_sound(tmp_path):
    path = write(tmp_path / "a.wav", SOUND)
    path.write_bytes(path.read_bytes() + bytes(3_000))
    samples, source = read_through(path)
    assert (len(samples), source.warnings) == (len(SOUND), [])


def test_flac_whose_header_knows_too_little_is_read_to_the_end(tmp_path):
    data = bytearray(write(tmp_path / "a.flac", SOUND).read_bytes())
    data[22:26] = (10_000).to_bytes(4, "big")
    (tmp_path / "b.flac").write_bytes(data)
    samples, source = read_through(tmp_path / "b.flac")
    np.testing.assert_array_equal(samples, read_through(tmp_path / "a.flac")[0])
    assert ["older than its sound" in warning for warning in source.warnings] == [True]


def test_flac_whose_header_knows_too_much_is_read_as_far_as_it_goes(tmp_path):
    data = bytearray(write(tmp_path / "a.flac", SOUND).read_bytes())
    data[22:26] = (10**9).to_bytes(4, "big")
    (tmp_path / "b.flac").write_bytes(data)
    samples, source = read_through(tmp_path / "b.flac")
    np.testing.assert_array_equal(samples, read_through(tmp_path / "a.flac")[0])
    assert ["truncated or damaged" in warning for warning in source.warnings] == [True]
