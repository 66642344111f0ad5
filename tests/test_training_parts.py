"""Parts of the training that can be judged alone: what a listener would say, the optimiser, made sounds."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rtdenoise.geometry import Framing  # noqa: E402
from rtdenoise.training import perceptual_loss  # noqa: E402
from rtdenoise.training.data import augment, synthetic_noise  # noqa: E402
from rtdenoise.training.data.whisper import whispered  # noqa: E402
from rtdenoise.training.muon import MuonAdamW, orthogonalised  # noqa: E402
from rtdenoise.training.spectra import to_spectra  # noqa: E402

pytestmark = pytest.mark.slow

RATE = 16000


def _voice(seconds: float = 2.0) -> torch.Tensor:
    """Harmonics of 120 Hz that come and go three times a second: the least that has pitch and envelope."""
    time_s = torch.arange(int(seconds * RATE)) / RATE
    tone = sum(torch.sin(2 * torch.pi * 120 * k * time_s) / k for k in range(1, 30))
    return 0.1 * tone * torch.sin(2 * torch.pi * 1.5 * time_s).abs() ** 2


def _frames(wave: torch.Tensor) -> torch.Tensor:
    return to_spectra(wave[None], RATE)[:, ::4]


@pytest.mark.parametrize("framing", [Framing(4.0), Framing(8.0)], ids=["16 ms", "32 ms"])
def test_a_disturbance_is_about_what_pesq_takes_away(framing):
    pesq = pytest.importorskip("pesq").pesq
    voice, noise = _voice(4.0), torch.randn(4 * RATE, generator=torch.Generator().manual_seed(1))
    for level in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2):
        noisy = voice + level * noise
        mos = pesq(RATE, voice.numpy(), noisy.numpy(), "wb")
        points = 4.5 - (3.8224 - np.log(4 / (mos - 0.999) - 1)) / 1.3669  # P.862.2's last mapping, undone
        frames = (to_spectra(x[None], RATE, framing)[:, :: round(16 / framing.hop_ms)] for x in (noisy, voice))
        assert perceptual_loss.disturbance(*frames).item() == pytest.approx(points, abs=0.8), level


def test_a_disturbance_grows_with_the_noise_and_is_zero_without_any():
    voice, noise = _voice(), torch.randn(2 * RATE, generator=torch.Generator().manual_seed(1))
    lost = [
        perceptual_loss.disturbance(_frames(voice + a * noise), _frames(voice)).item() for a in (0, 1e-3, 1e-2, 1e-1)
    ]
    assert lost[0] < 0.02
    assert lost == sorted(lost)
    assert lost[3] > 1


def test_noise_added_counts_more_than_as_much_speech_lost():
    voice = _frames(_voice())
    patch = torch.zeros(voice.shape[1:])
    patch[10:30, 10:30] = 1
    louder, softer = (perceptual_loss.disturbance(voice * gain**patch, voice).item() for gain in (4.0, 0.25))
    assert louder > softer > 0.1


def test_a_voice_that_comes_and_goes_is_not_excused():
    voice = _frames(_voice())
    half = torch.ones(voice.shape[1], 1)
    half[::8] = half[1::8] = half[2::8] = half[3::8] = 0.1
    assert perceptual_loss.disturbance(voice * half, voice).item() > 0.5


def test_noise_in_a_pause_counts_too():
    voice = _voice(4.0)
    voice[2 * RATE :] = 0
    hiss = 1e-3 * torch.randn(len(voice), generator=torch.Generator().manual_seed(6))
    hiss[: 2 * RATE] = 0
    assert perceptual_loss.disturbance(_frames(voice + hiss), _frames(voice)).item() > 2


def test_envelopes_match_whatever_the_gain_and_not_when_flattened():
    voice = _frames(_voice())
    assert perceptual_loss.envelope_match(voice * 0.1, voice).item() == pytest.approx(1, abs=1e-3)
    noise = _frames(torch.randn(2 * RATE, generator=torch.Generator().manual_seed(2)))
    assert abs(perceptual_loss.envelope_match(noise, voice).item()) < 0.3


def test_hearing_gives_gradients_that_help():
    voice = _frames(_voice())
    estimate = (voice + 0.02 * torch.randn(voice.shape, dtype=voice.dtype)).requires_grad_()
    loss = (perceptual_loss.disturbance(estimate, voice) + 1 - perceptual_loss.envelope_match(estimate, voice)).sum()
    loss.backward()
    with torch.no_grad():
        better = estimate - estimate.grad * 1e-4 / estimate.grad.abs().max()
    again = (perceptual_loss.disturbance(better, voice) + 1 - perceptual_loss.envelope_match(better, voice)).sum()
    assert again < loss
    assert torch.isfinite(torch.view_as_real(estimate.grad)).all()


def test_a_whisper_keeps_course_and_level_and_loses_its_pitch():
    voice = _voice().numpy()
    breath = whispered(np.random.default_rng(1), voice, RATE)
    assert breath.shape == voice.shape
    assert breath.dtype == voice.dtype
    assert augment.rms(breath) == pytest.approx(augment.rms(voice), rel=1e-3)
    courses = (np.sqrt(np.mean(np.square(x.reshape(-1, 800)), 1)) for x in (voice, breath))
    assert np.corrcoef(*courses)[0, 1] > 0.9
    period = round(RATE / 120)
    pitch = [float(np.corrcoef(x[:-period], x[period:])[0, 1]) for x in (voice, breath)]
    assert pitch[0] > 0.9
    assert abs(pitch[1]) < 0.1
    assert np.array_equal(breath, whispered(np.random.default_rng(1), voice, RATE))


def test_silence_whispers_nothing():
    silence = np.zeros(RATE, np.float32)
    assert not whispered(np.random.default_rng(1), silence, RATE).any()


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16), (3, 8, 40), (5, 16, 12)])
def test_an_orthogonalised_matrix_has_singular_values_near_one(shape):
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape, generator=torch.Generator().manual_seed(3))))
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_muon_learns_and_resumes_from_its_state():
    def steps(net, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            loss = ((net(x) - x.flip(1)) ** 2).mean()
            loss.backward()
            optimizer.step()
        return loss.item()

    def fresh():
        torch.manual_seed(4)
        return torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6))

    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(5))
    net, twin = fresh(), fresh()
    optimizer = MuonAdamW(net, 1e-2, 0.0)
    first = steps(net, optimizer, 5)
    twin.load_state_dict(net.state_dict())
    other = MuonAdamW(twin, 1e-2, 0.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    last = steps(net, optimizer, 60)
    assert last < 0.3 * first
    assert steps(twin, other, 60) == last


def test_muon_takes_convolutions_and_matrices_side_by_side_as_matrices():
    torch.manual_seed(6)
    shapes = {"conv": (8, 4, 1, 3), "many": (5, 8, 6), "bias": (8,)}
    net = torch.nn.ParameterDict({name: torch.randn(shape) for name, shape in shapes.items()})
    before = {name: p.detach().clone() for name, p in net.items()}
    optimizer = MuonAdamW(net, 1e-2, 0.0)
    for p in net.values():
        p.grad = torch.randn(p.shape)
    optimizer.step()
    moved = {name: (p.detach() - before[name]) for name, p in net.items()}
    for update in (moved["conv"].flatten(1)[None], moved["many"]):
        values = torch.linalg.svdvals(update)
        assert (values.amax(1) < 3 * values.amin(1)).all(), "every direction moves about alike"
    assert moved["bias"].abs().min() > 0


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("name", ["coloured", "tones", "clicks", "keys", "wind", "rain", "motor", "alarm", "cries"])
def test_made_noises_are_sound_repeatable_and_never_silent(name, rate):
    make = getattr(synthetic_noise, name)
    for seed in range(12):
        noise = make(np.random.default_rng(seed), 2 * rate, rate)
        assert (noise.dtype.kind, noise.shape) == ("f", (2 * rate,))
        assert np.isfinite(noise).all()
        assert synthetic_noise.rms(noise) > 2e-4
        assert np.array_equal(noise, make(np.random.default_rng(seed), 2 * rate, rate))


def test_wind_is_low_and_typing_is_mostly_pauses():
    wind, typing = (
        make(np.random.default_rng(4), 32000, 16000) for make in (synthetic_noise.wind, synthetic_noise.keys)
    )
    power = np.abs(np.fft.rfft(wind)) ** 2
    assert power[: 2 * 500].sum() > 0.7 * power.sum()
    level = np.sqrt(np.mean(typing[: 32000 // 160 * 160].reshape(-1, 160) ** 2, 1))
    assert np.median(level) < 0.2 * level.max()


def test_a_motor_turns_and_an_alarm_is_made_of_lines():
    motors = (synthetic_noise.motor(np.random.default_rng(seed), 32000, 16000) for seed in range(10))
    levels = (np.sqrt(np.mean(motor.reshape(-1, 40) ** 2, 1)) for motor in motors)  # 2.5 ms each
    turning = [np.abs(np.fft.rfft(level - level.mean())) ** 2 for level in levels]
    assert np.mean([power.max() / power.sum() for power in turning]) > 0.05, "one rate of turns stands out"
    alarms = (synthetic_noise.alarm(np.random.default_rng(seed), 32000, 16000) for seed in range(10))
    spectra = (np.sort(np.abs(np.fft.rfft(alarm[:4096] * np.hanning(4096))) ** 2) for alarm in alarms)
    assert np.median([power[-200:].sum() / power.sum() for power in spectra]) > 0.9


def test_a_texture_has_the_spectrum_of_one_and_the_envelope_of_the_other():
    random, time_s = np.random.default_rng(7), np.arange(32000) / 16000
    low = np.convolve(random.standard_normal(32000), np.ones(16) / 16, "same").astype(np.float32)
    bursts = (np.sin(2 * np.pi * 2 * time_s) > 0) * random.standard_normal(32000).astype(np.float32)
    for _ in range(5):
        made = synthetic_noise.texture(random, low, bursts, 16000)
        power = np.abs(np.fft.rfft(made)) ** 2
        assert power[: 2 * 1000].sum() > 0.8 * power.sum()
        loud = (bursts != 0).reshape(-1, 2000).mean(1) > 0.9
        level = np.sqrt(np.mean(made.reshape(-1, 2000) ** 2, 1))
        assert level[loud].mean() > 2 * level[~loud].mean()


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_rumble_lies_below_150_hz(rate):
    random = np.random.default_rng(1)
    for _ in range(20):
        power = np.abs(np.fft.rfft(synthetic_noise.rumble(random, 2 * rate, rate))) ** 2
        assert power[: 2 * 150].sum() > 0.8 * power.sum()
        assert power[: 2 * 150].mean() > 100 * power[2 * 1000 :].mean()


@pytest.mark.parametrize("rate", [16000, 48000])
def test_pops_are_thumps_below_60_hz_that_begin_with_the_voice(rate):
    random = np.random.default_rng(4)
    voice = np.zeros(3 * rate, np.float32)
    voice[rate : rate + rate // 2] = random.standard_normal(rate // 2)
    for _ in range(20):
        made = synthetic_noise.pops(random, voice, rate)
        assert np.abs(made).max() == pytest.approx(1)
        power = np.abs(np.fft.rfft(made)) ** 2
        assert power[: 3 * 60].sum() > 0.9 * power.sum()
        assert power[: 3 * 60].mean() > 1000 * power[3 * 500 :].mean()
        assert np.sum(made[rate:] ** 2) > 0.9 * np.sum(made**2), "not before the voice"


@pytest.mark.parametrize("codec", augment.CODECS)
def test_codecs_keep_time_and_length_and_leave_something_to_clean(codec, monkeypatch):
    monkeypatch.setattr(augment, "CODECS", (codec,))
    x = np.convolve(np.random.default_rng(2).standard_normal(30_001), np.ones(8) / 8, "same").astype(np.float32)
    y = augment.coded(np.random.default_rng(3), x, 16000)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    left = np.sum((y - x) ** 2) / np.sum(x**2)
    assert 1e-5 < left < 0.2, "louder than full scale, and still its own sound"
