"""``--loudness``: the output has the loudness that was asked for, its peaks stay below -1 dBTP, nothing is shifted.

Loudness is checked against signals whose loudness EBU Tech 3341 states, peaks by an interpolation of our own.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from command import call, identity_model, parts, pipe, voice, write
from rtdenoise import RtdenoiseError, UsageError, denoise_file

av = pytest.importorskip("av")
from scipy.signal import resample_poly  # noqa: E402

import films  # noqa: E402
from rtdenoise.io import loudness, media  # noqa: E402

pytestmark = pytest.mark.slow
NEAR_LU = 0.15  # a meter's tolerance of 0.1 LU, and 16 bits
CEILING = 10 ** (-1 / 20)


def tone(level_dbfs: float, seconds: float = 4, rate: int = 48_000, channels: int = 2) -> np.ndarray:
    """A sine of 1 kHz: in stereo, of as many LUFS as its peak has dBFS (EBU Tech 3341, case 1)."""
    wave = 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * 1_000 * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, 1).astype(np.float32)


def true_peak(samples: np.ndarray) -> float:
    return float(np.abs(resample_poly(samples.astype(float), 8, 1, axis=0)).max())


def lufs(samples: np.ndarray, rate: int) -> float:
    """By the product's own meter; `test_a_tone_of_known_loudness` says that it is right."""
    chain = loudness._Chain(rate, samples.shape[1], media.LAYOUTS[samples.shape[1]])
    chain.push(samples)
    chain.end()
    return chain.lufs


def levelled(folder, samples, rate=48_000, target=-16):
    source = write(folder / "in.wav", samples, rate, subtype="FLOAT")
    report = denoise_file(source, folder / "out.wav", model=identity_model(), loudness_lufs=target)
    return report, soundfile.read(folder / "out.wav", dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize("level", [-40, -23, -18])
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_tone_of_known_loudness_becomes_as_loud_as_asked(tmp_path, level, rate):
    report, out = levelled(tmp_path, tone(level, rate=rate), rate, -16)
    peak_db = 20 * np.log10(np.abs(out[rate:-rate]).max())
    assert peak_db == pytest.approx(-16, abs=NEAR_LU)
    assert report.loudness_lufs == pytest.approx(-16, abs=NEAR_LU)


def test_quiet_parts_do_not_count(tmp_path):
    """EBU Tech 3341, case 3, shortened: tones of -36, -23 and -36 dBFS are of -23 LUFS."""
    three = np.concatenate([tone(-36, 3, 16_000), tone(-23, 18, 16_000), tone(-36, 3, 16_000)])
    _, out = levelled(tmp_path, three, 16_000, -20)
    assert 20 * np.log10(np.abs(out[5 * 16_000 : 20 * 16_000]).max()) == pytest.approx(-20, abs=NEAR_LU)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (44_100, 1), (16_000, 6)])
@pytest.mark.parametrize("target", [-16, -9])
def test_peaks_stay_below_the_ceiling_and_the_loudness_is_reached(tmp_path, rate, channels, target):
    clicks = films.clicks(rate, channels, 6)
    report, out = levelled(tmp_path, clicks, rate, target)
    assert true_peak(out) <= CEILING * 1.005  # two interpolations differ by so much
    assert lufs(out, rate) == pytest.approx(report.loudness_lufs, abs=NEAR_LU)
    said = any("peaks allow" in line for line in report.warnings)
    assert said or report.loudness_lufs == pytest.approx(target, abs=NEAR_LU)


def test_samples_between_which_the_sound_is_louder_than_at_them_are_held_too(tmp_path):
    """A quarter of the rate at 45 degrees: its peaks are 3 dB above its samples."""
    wave = 0.3 * np.sin(2 * np.pi * np.arange(48_000 * 5) / 4 + np.pi / 4).astype(np.float32)[:, None]
    _, out = levelled(tmp_path, wave, target=-5)
    assert true_peak(out[4_800:-4_800]) <= CEILING * 1.005


def test_without_a_limiter_it_is_one_gain_and_nothing_is_shifted(tmp_path, rng):
    sound = (0.01 * rng.standard_normal((100_001, 2))).astype(np.float32)
    _, out = levelled(tmp_path, sound, target=-30)
    gain = (out * sound).sum() / (sound * sound).sum()
    assert len(out) == len(sound)
    np.testing.assert_allclose(out, gain * sound, atol=1e-5)


def test_the_limiter_shifts_nothing(tmp_path):
    sound = films.clicks(48_000, 1, 10)
    _, out = levelled(tmp_path, sound, target=-9)
    correlation = np.correlate(out[:48_000, 0], sound[:48_000, 0], "full")
    assert np.argmax(correlation) == 48_000 - 1
    assert len(out) == len(sound)


@pytest.mark.parametrize(
    "samples", [np.zeros((48_000, 1)), 0.1 * np.ones((10_000, 1)), 1e-5 * voice(48_000)], ids=["0", "short", "faint"]
)
def test_what_cannot_be_measured_stays_as_it_is(tmp_path, samples):
    report, out = levelled(tmp_path, samples.astype(np.float32))
    assert report.loudness_lufs is None
    np.testing.assert_allclose(out, samples, atol=1e-6)
    assert any("cannot be measured" in line for line in report.warnings)


def test_hardly_more_than_noise_is_not_raised_without_end(tmp_path):
    report, out = levelled(tmp_path, tone(-60), target=-16)
    assert np.abs(out).max() == pytest.approx(10 ** ((-60 + loudness.MOST_GAIN_DB) / 20), rel=0.02)
    assert any("mostly noise" in line for line in report.warnings)


def test_a_folder_is_made_even(tmp_path, capfd):
    for name, level in (("a", -30), ("b", -20)):
        write(tmp_path / f"in/{name}.wav", tone(level))
    line = "--in", tmp_path / "in", "--out", tmp_path / "out", "--loudness", "-18", "--json", "--jobs", "2"
    code, out, _ = call(capfd, *line, "--bypass")
    assert code == 0
    assert [json.loads(text)["loudness_lufs"] for text in out.splitlines()] == pytest.approx([-18, -18], abs=NEAR_LU)


def test_every_track_of_a_film_is_as_loud_as_asked(tmp_path):
    film = films.make(tmp_path / "talk.mkv", "matroska", "flac", "mpeg4", tracks=2, seconds=6)
    report = denoise_file(film, tmp_path / "out.mkv", model=identity_model(), loudness_lufs=-23, track="all")
    assert report.loudness_lufs == pytest.approx(-23, abs=NEAR_LU)
    for track in (1, 2):
        denoise_file(tmp_path / "out.mkv", tmp_path / f"{track}.wav", model=identity_model(), track=track)
        samples, rate = soundfile.read(tmp_path / f"{track}.wav", dtype="float32", always_2d=True)
        assert lufs(samples, rate) == pytest.approx(-23, abs=NEAR_LU)


def test_a_pipe_is_written_once_all_is_known(tmp_path):
    source = write(tmp_path / "in.wav", tone(-30), 48_000, subtype="FLOAT")
    done = pipe(source.read_bytes(), "--in", "-", "--out", "-", "--bypass", "--loudness", "-20")
    assert done.returncode == 0
    samples = np.frombuffer(done.stdout[-48_000 * 8 :], np.float32)
    assert 20 * np.log10(np.abs(samples).max()) == pytest.approx(-20, abs=NEAR_LU)


@pytest.mark.parametrize("value", ["0", "-4.9", "-41", "nan", "inf", "loud", "16"])
def test_a_loudness_without_sense_is_refused(tmp_path, capfd, value):
    write(tmp_path / "in.wav", tone(-30, 1))
    code, _, said = call(capfd, "--in", tmp_path / "in.wav", "--out", tmp_path / "o.wav", "--loudness", value)
    assert code == 2
    assert "from -40 to -5 LUFS" in said
    assert not (tmp_path / "o.wav").exists()


@pytest.mark.parametrize("value", [0, float("nan"), "-16", True])
def test_python_refuses_it_too(tmp_path, value):
    with pytest.raises(UsageError, match="-40 to -5 LUFS"):
        denoise_file(write(tmp_path / "in.wav", tone(-30, 1)), tmp_path / "out.wav", loudness_lufs=value)


def test_live_audio_has_no_loudness_beforehand(capfd):
    assert call(capfd, "--in", "mic", "--out", "speakers", "--loudness", "-16")[0] == 2


def test_a_failure_leaves_nothing(tmp_path):
    class Enough(Exception):
        pass

    def stop(done: float, total: float | None) -> None:
        raise Enough

    with pytest.raises(Enough):
        denoise_file(write(tmp_path / "in.wav", tone(-30, 3)), tmp_path / "o.wav", loudness_lufs=-16, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav"]
    assert not parts(tmp_path, 0)


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "__version__", "15.0")
    with pytest.raises(RtdenoiseError, match=r"pip install 'rtdenoise\[media\]'"):
        denoise_file(write(tmp_path / "in.wav", tone(-30, 1)), tmp_path / "out.wav", loudness_lufs=-16)
    assert not (tmp_path / "out.wav").exists()
