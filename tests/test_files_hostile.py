"""Whatever bytes a file has, reading ends: with sound, a warning or one line; never with a traceback or a hang."""

import struct
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command import call, voice, write
from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.sound_source import SoundFileSource

pytestmark = pytest.mark.slow

RATE, SAMPLES = 16_000, 20_000
MOST_SAMPLES = 100 * SAMPLES  # no few bytes of damage can mean more sound than this
KINDS = {  # name: container, encoding
    "wav": ("WAV", "PCM_16"),
    "wavex": ("WAVEX", "PCM_24"),
    "adpcm": ("WAV", "IMA_ADPCM"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "FLOAT"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "alac": ("CAF", "ALAC_16"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A folder with a whole file of each kind."""
    folder = tmp_path_factory.mktemp("originals")
    sound = 0.3 * np.sin(np.arange(SAMPLES)[:, None] / 20).astype(np.float32) + voice(SAMPLES, level=0.02)
    for kind, (container, subtype) in KINDS.items():
        write(folder / kind, sound, RATE, subtype, format=container)
    return folder


def read_through(path) -> int:
    """How many samples come out; RtdenoiseError passes through."""
    with warnings.catch_warnings(), SoundFileSource(str(path)) as source:
        warnings.simplefilter("error")
        if not 8_000 <= source.rate <= 192_000 or source.channels > 8:
            return 0  # refused by the filter before a sample is read
        done = 0
        for block in source.blocks():
            assert block.shape[1] == source.channels
            done += len(block)
            if done > MOST_SAMPLES:
                break
        return done


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_inserted_and_missing_bytes_end_in_sound_or_one_line(tmp_path, originals, kind, data):
    content = bytearray((originals / kind).read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        # half of them in the header, where they do most harm
        at = data.draw(st.integers(0, 200) | st.integers(0, len(content) - 1))
        at = min(at, len(content) - 1)
        change = data.draw(st.binary(min_size=1, max_size=40))
        content[at : at + data.draw(st.sampled_from([0, len(change)]))] = change
    content = content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))]
    path = tmp_path / "hostile"
    path.write_bytes(content)
    samples, problem = 0, ""
    try:
        samples = read_through(path)
    except RtdenoiseError as error:
        problem = str(error)
    assert "\n" not in problem
    assert samples <= MOST_SAMPLES


def test_an_au_file_whose_sound_begins_before_its_header_ends_is_no_endless_chain(tmp_path):
    path = write(tmp_path / "a.au", voice(100), RATE, "PCM_16")
    data = bytearray(path.read_bytes())
    data[4:12] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(RtdenoiseError):
        read_through(path)


HELD = [
    ("a.wav", "PCM_24", {}),
    ("a.wav", "PCM_16", {"endian": "BIG"}),
    ("a.wav", "IMA_ADPCM", {}),
    ("a.wav", "MS_ADPCM", {}),
    ("a.wav", "GSM610", {}),
    ("a.wav", "G721_32", {}),
    ("a.wav", "ULAW", {}),
    ("a.wav", "DOUBLE", {}),
    ("a.caf", "ALAC_16", {}),
    ("a.caf", "ALAC_24", {}),
]


@pytest.mark.parametrize(("name", "subtype", "options"), HELD)
def test_odd_lengths_of_rare_encodings_are_read_without_a_warning(tmp_path, capfd, name, subtype, options):
    rate = 8_000 if subtype == "GSM610" else RATE
    source = write(tmp_path / name, voice(12_345, level=0.03), rate, subtype, **options)
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / f"b-{name}", "--bypass", "--quiet")
    assert (code, said) == (0, "")
    before, after = soundfile.info(source), soundfile.info(tmp_path / f"b-{name}")
    assert (after.subtype, after.endian, after.frames) == (before.subtype, before.endian, before.frames)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_an_id3_tag_before_the_file_is_passed_over(tmp_path, capfd, name):
    source = write(tmp_path / name, voice(SAMPLES))
    source.write_bytes(b"ID3\x04\0\0" + bytes([0, 0, 1, 0]) + bytes(128) + source.read_bytes())
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet") == (0, "", "")
    assert soundfile.info(tmp_path / "b.wav").frames == SAMPLES


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_wav_sizes_that_say_nothing_are_read_to_the_end(tmp_path, capfd, size):
    source = write(tmp_path / "a.wav", voice(SAMPLES), subtype="PCM_16")
    data = bytearray(source.read_bytes())
    struct.pack_into("<I", data, 4, size)
    struct.pack_into("<I", data, 40, size)
    source.write_bytes(data)
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet")[0] == 0
    assert soundfile.info(tmp_path / "b.wav").frames == SAMPLES


def test_cut_ogg_is_read_as_far_as_it_goes_with_a_warning(tmp_path, capfd):
    source = write(tmp_path / "a.ogg", voice(200_000))
    source.write_bytes(source.read_bytes()[:-20_000])
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet")
    assert code == 0
    assert "is truncated: its last" in said
    assert 50_000 < soundfile.info(tmp_path / "b.wav").frames < 200_000
