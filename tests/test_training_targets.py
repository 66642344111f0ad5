"""What a training pair teaches: rumble is noise, a voice begins at 60 Hz, and many speakers count more than one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import soundfile as sf

torch = pytest.importorskip("torch")

from rtdenoise.training.data import synthetic_noise  # noqa: E402
from rtdenoise.training.data.clips import open_bank  # noqa: E402
from rtdenoise.training.data.mixer import Banks, MixConfig, Mixer  # noqa: E402
from rtdenoise.training.data.sampling import clip_weights, voice_probabilities  # noqa: E402
from rtdenoise.training.losses import LossWeights, spectral_loss  # noqa: E402

pytestmark = pytest.mark.slow

RATE = 16000
TIME_S = np.arange(4 * RATE) / RATE
PLAIN = dict.fromkeys(
    (
        "clean_only",
        "noise_only",
        "band_limited",
        "clipped",
        "coded",
        "room",
        "speed",
        "equalise",
        "pauses",
        "whispered",
    ),
    0,
)


def _level_db(x: np.ndarray, low_hz: float, high_hz: float) -> float:
    hz = np.fft.rfftfreq(len(x), 1 / RATE)
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
    return float(10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].sum() + 1e-12))


@pytest.fixture
def folders(tmp_path):
    """One voice that stands on a rumble of its own, and a noise above it."""
    for name in ("clean", "noise"):
        (tmp_path / name).mkdir()
    words = np.sin(2 * np.pi * 220 * TIME_S) * (np.sin(2 * np.pi * TIME_S) > 0)
    sf.write(tmp_path / "clean" / "voice.wav", 0.2 * words + 0.2 * np.sin(2 * np.pi * 25 * TIME_S), RATE)
    hiss = np.diff(np.random.default_rng(0).standard_normal(len(TIME_S) + 1))
    sf.write(tmp_path / "noise" / "hiss.wav", 0.05 * hiss, RATE)
    return tmp_path


def _mixer(folders, **config) -> Mixer:
    banks = Banks.open([folders / "clean"], [folders / "noise"], [], RATE, folders / "cache")
    return Mixer(banks, 2.0, 5, MixConfig(**(PLAIN | config)))


def test_a_target_begins_at_60_hz_while_the_mixture_keeps_what_the_recording_holds_below(folders):
    mixer = _mixer(folders, low_noise=0, snr_db=(35.0, 35.0))
    for k in range(8):
        noisy, target, _ = mixer.pair(k)
        assert _level_db(noisy, 20, 30) > _level_db(target, 200, 240) - 12
        assert _level_db(target, 20, 30) < _level_db(target, 200, 240) - 40
        assert _level_db(target, 200, 240) == pytest.approx(_level_db(noisy, 200, 240), abs=1.0)


def test_low_noises_stand_beside_the_voice_at_the_levels_asked_for(folders):
    plain, with_low = (_mixer(folders, low_noise=chance, snr_db=(30.0, 30.0)) for chance in (0, 1))
    added = []
    for k in range(40):
        noisy, target, _ = with_low.pair(k)
        assert _level_db(target, 0, 30) < _level_db(target, 200, 240) - 40, "never in the target"
        added.append(_level_db(noisy - target, 0, 8000) - _level_db(target, 200, 240))
    alone = [_level_db(n - t, 60, 8000) - _level_db(t, 200, 240) for n, t, _ in map(plain.pair, range(40))]
    assert max(alone) < -15
    assert sum(x > -15 for x in added) > 30


@pytest.mark.parametrize("name", ["cabin", "ventilation", "handling", "hum"])
def test_low_noises_are_mostly_low_and_of_rms_one(name):
    random, share = np.random.default_rng(3), []
    for _ in range(20):
        made = getattr(synthetic_noise, name)(random, 2 * RATE, RATE)
        assert made.shape == (2 * RATE,)
        assert np.sqrt(np.mean(made**2)) == pytest.approx(1, abs=0.01)
        power = np.abs(np.fft.rfft(made)) ** 2
        share.append(power[: 2 * 400].sum() / power.sum())
    assert np.median(share) > 0.65, "air through a duct reaches higher than a road"


def test_noise_left_and_speech_lost_are_weighed_apart():
    target = torch.randn(1, 20, 129, dtype=torch.complex64) * 0.01
    plain = dict.fromkeys(("magnitude", "complex", "snr"), 0.0)
    for weights, gain in (
        (LossWeights(**plain, over_attenuation=0, residue=1), 2.0),
        (LossWeights(**plain, over_attenuation=1, residue=0), 0.5),
    ):
        assert spectral_loss(target * gain, target, weights)[0] > 0.01
        assert spectral_loss(target / gain, target, weights)[0] == 0


def test_low_bins_weigh_more_as_the_ear_has_more_bands_there():
    target = torch.ones(1, 20, 129, dtype=torch.complex64) * 0.01
    alike = LossWeights(magnitude=1, complex=1, over_attenuation=1, residue=1, snr=0)
    as_heard = dataclasses.replace(alike, ear=1.0)

    def lost(weights, bins):
        estimate = target.clone()
        estimate[..., bins] *= 2
        return spectral_loss(estimate, target, weights)[0].item()

    low, high = slice(0, 8), slice(121, 129)  # below 0.5 and above 7.5 kHz
    assert lost(alike, low) == pytest.approx(lost(alike, high))
    assert lost(as_heard, low) > 10 * lost(as_heard, high)
    assert lost(as_heard, slice(None)) == pytest.approx(lost(alike, slice(None)), rel=1e-5)


def _voices(folder, speakers: dict[str, float], floor_db: float = -80.0):
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    for name, seconds in speakers.items():
        time_s = np.arange(round(seconds * RATE)) / RATE
        voice = 0.1 * np.sin(2 * np.pi * 200 * time_s) * (np.sin(2 * np.pi * time_s) > 0)
        sf.write(folder / f"{name}.wav", voice + 10 ** (floor_db / 20) * random.standard_normal(len(time_s)), RATE)


def test_ten_speakers_are_drawn_more_than_one_with_as_many_minutes(tmp_path):
    _voices(tmp_path / "many", {f"s{k}": 4 for k in range(10)})
    _voices(tmp_path / "one", {"talker": 40})
    bank = open_bank([tmp_path / "many", tmp_path / "one"], "speech", RATE, tmp_path / "cache")
    probabilities = voice_probabilities(bank)
    many, one = (probabilities[[c.source == name for c in bank.clips]].sum() for name in ("many", "one"))
    assert 1.3 * one < many < 3 * one
    assert clip_weights(bank, probabilities, "all")[-1] == pytest.approx(probabilities.sum())


def test_a_recording_that_is_itself_noisy_is_drawn_seldom(tmp_path):
    _voices(tmp_path / "quiet", {"a": 6}, floor_db=-80)
    _voices(tmp_path / "hissing", {"b": 6}, floor_db=-45)
    bank = open_bank([tmp_path / "quiet", tmp_path / "hissing"], "speech", RATE, tmp_path / "cache")
    ranges = {c.speaker: bank.ranges_db[i] for i, c in enumerate(bank.clips)}
    assert ranges["a"] == pytest.approx(57, abs=3)  # 0.1 / sqrt(2) against -80 dB
    assert ranges["b"] == pytest.approx(22, abs=3)
    probabilities = dict(zip([c.speaker for c in bank.clips], voice_probabilities(bank), strict=True))
    assert probabilities["b"] < 0.02 * probabilities["a"]
