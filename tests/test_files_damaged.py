"""Damage in the middle of a file costs what is damaged: the rest keeps its place in time, and the exit code is 1."""

import numpy as np
import pytest
import soundfile

from command import call, voice, write
from rtdenoise.io.sound_source import SoundFileSource

pytestmark = pytest.mark.slow

SECONDS, RATE = 40, 16_000


def damaged(path, count: int, insert: bool = False):
    """The file with random bytes at a quarter of it."""
    data = path.read_bytes()
    at = len(data) // 4
    noise = np.random.default_rng(3).bytes(count)
    path.write_bytes(data[:at] + noise + data[at + (0 if insert else count) :])
    return path


@pytest.mark.parametrize(("channels", "subtype"), [(1, "PCM_16"), (2, "PCM_24"), (3, "PCM_16")])
@pytest.mark.parametrize("count", [1, 300, 30_000])
def test_flac_goes_on_behind_a_hole_with_silence_of_its_length(tmp_path, capfd, channels, subtype, count):
    source = write(tmp_path / "a.flac", voice(SECONDS * RATE, channels), RATE, subtype)
    whole = soundfile.read(source, always_2d=True)[0]
    assert call(capfd, "--in", damaged(source, count), "--out", tmp_path / "b.flac", "--bypass")[0] == 1
    heard = soundfile.read(tmp_path / "b.flac", always_2d=True)[0]
    assert len(heard) == len(whole)
    wrong = np.flatnonzero((np.abs(heard - whole) > 1e-4).any(1))
    assert len(wrong) < 8_192 + 4 * count
    assert wrong[0] > SECONDS * RATE * 0.2
    assert wrong[-1] < SECONDS * RATE * 0.35
    assert np.abs(heard[wrong[0] + 256 : wrong[-1] - 256]).max() < 1e-4


def test_flac_with_a_damaged_header_and_a_hole_keeps_every_sample_in_its_place(tmp_path):
    source = write(tmp_path / "a.flac", voice(SECONDS * RATE), RATE)
    whole = soundfile.read(source, always_2d=True)[0]
    data = bytearray(damaged(source, 300).read_bytes())
    data[8:12] = b"\0\x10\x20\0"  # the sizes of its blocks
    source.write_bytes(data)
    with SoundFileSource(str(source)) as file:
        heard = np.concatenate([*file.blocks()])
    assert len(heard) == len(whole)
    assert np.count_nonzero(np.abs(heard - whole) > 1e-4) <= 4_096


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("places", [[0.25], [0.2, 0.5, 0.7]])
def test_ogg_goes_on_behind_holes_with_silence_of_their_length(tmp_path, subtype, places):
    path = write(tmp_path / "a.ogg", voice(SECONDS * RATE), RATE, subtype, format="OGG")
    whole, data = soundfile.read(path, always_2d=True)[0], bytearray(path.read_bytes())
    for place in places:
        at = int(len(data) * place)
        data[at : at + 300] = np.random.default_rng(at).bytes(300)
    path.write_bytes(data)
    with SoundFileSource(str(path)) as source:
        heard = np.concatenate([*source.blocks()])
    assert source.damaged
    assert "silence stands in their place" in source.warnings[0]
    assert len(heard) == len(whole)
    wrong = np.flatnonzero(np.abs(heard - whole) > 1e-3)
    assert 0 < len(wrong) < 3 * RATE * len(places)
    right = np.flatnonzero(np.abs(heard - whole) <= 1e-3)
    assert right[-1] == len(whole) - 1


def test_damaged_mp3_is_read_to_its_end_and_told(tmp_path, capfd):
    source = damaged(write(tmp_path / "a.mp3", voice(SECONDS * RATE), RATE), 300)
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet")
    assert code == 1
    assert "is damaged: " in said
    assert soundfile.info(tmp_path / "b.wav").frames == pytest.approx(SECONDS * RATE, abs=RATE / 2)


def test_a_damaged_file_says_what_is_lost_in_one_line(tmp_path, capfd):
    source = damaged(write(tmp_path / "a.flac", voice(SECONDS * RATE), RATE), 300)
    code, _, said = call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet")
    assert code == 1
    assert said.count("\n") == 1
    assert "is damaged: 4096 samples cannot be read; silence stands in their place" in said


def test_a_damaged_file_in_a_folder_is_filtered_and_the_exit_code_tells(tmp_path, capfd):
    write(tmp_path / "in" / "good.flac", voice(RATE), RATE)
    damaged(write(tmp_path / "in" / "bad.flac", voice(SECONDS * RATE), RATE), 300)
    code, _, said = call(capfd, "--in", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1
    assert "bad.flac is damaged" in said
    assert soundfile.info(tmp_path / "out" / "bad.flac").frames == SECONDS * RATE


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.aiff", "a.ogg", "a.opus", "a.mp3"])
def test_files_joined_by_cat_are_read_one_after_the_other(tmp_path, capfd, name):
    opus = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    first = write(tmp_path / name, voice(50_000, seed=1), RATE, **opus)
    second = write(tmp_path / f"2{name}", voice(40_001, seed=2), RATE, **opus)
    joined = tmp_path / f"joined-{name}"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    parts = [soundfile.read(path)[0] for path in (first, second, first)]
    code, _, said = call(capfd, "--in", joined, "--out", tmp_path / "out.wav", "--bypass", "--quiet")
    assert (code, "warning" in said) == (0, False)
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.wav")[0], np.concatenate(parts), atol=1e-4)


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.ogg", "a.mp3"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (RATE, 2)])
def test_a_joined_file_that_does_not_fit_is_not_read_and_told(tmp_path, capfd, name, rate, channels):
    first = write(tmp_path / name, voice(50_000), RATE)
    second = write(tmp_path / f"2{name}", voice(40_000, channels), rate)
    joined = tmp_path / f"joined-{name}"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    code, _, said = call(capfd, "--in", joined, "--out", tmp_path / "out.wav", "--quiet")
    assert code == 1
    assert f"its last {second.stat().st_size} bytes were not read: {rate} Hz and {channels} channels" in said
    assert soundfile.info(tmp_path / "out.wav").frames == 50_000
