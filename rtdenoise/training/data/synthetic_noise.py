"""Sounds that no recording provides, or not enough of them. Arrays out, float32 ``[samples]``.

Owns the synthetic noises: coloured, hum and fans, rumble, cabins, ventilation, handling, pops, clicks, typing, wind,
rain, motors, alarms, cries, and textures, which have the spectrum of one recording and the course of another. Every
function takes its random generator, so equal seeds give equal audio. Levels are not normalised, except where a
docstring says so.
"""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.ndimage import uniform_filter1d

from rtdenoise.training.data.augment import Random, rms

POP_S = 0.8  # By then a pop has died away.


def coloured(random: Random, count: int, rate: int) -> np.ndarray:
    """Noise with a random slope (white to brown) and two random broad bumps."""
    hz = np.linspace(0, rate / 2, count // 2 + 1, dtype=np.float32) + 40
    shape = hz ** random.uniform(-1.2, 0.25)
    for _ in range(random.integers(0, 3)):
        centre, width = 60 * (rate / 120) ** random.random(), random.uniform(0.15, 0.8)
        shape *= 1 + random.uniform(-0.9, 6) * np.exp(-((np.log(hz / centre) / width) ** 2))
    white = fft.rfft(random.standard_normal(count, dtype=np.float32))
    return fft.irfft(white * shape, count)


def tones(random: Random, count: int, rate: int) -> np.ndarray:
    """Mains hum or a fan: a fundamental that wanders a little, its harmonics, and some air noise."""
    mains = random.random() < 0.5
    base_hz = float(random.choice([50, 60])) if mains else random.uniform(40, 600)
    partials = int(random.integers(2, 30 if mains else 10))
    wander = 0.0 if mains else random.uniform(0, 0.02)
    time_s = np.arange(count, dtype=np.float32) / rate
    sway = wander * np.sin(2 * np.pi * random.uniform(0.1, 1.0) * time_s + random.uniform(0, 6)) / 2
    phase = 2 * np.pi * base_hz * (time_s + sway)
    out = np.zeros(count, np.float32)
    tilt = random.uniform(0.4, 1.8)
    for k in range(1, partials + 1):
        if k * base_hz > 0.45 * rate:
            break
        out += np.sin(k * phase + random.uniform(0, 6.3)).astype(np.float32) * (k**-tilt * random.uniform(0.1, 1))
    return out / rms(out) + coloured(random, count, rate) * random.uniform(0.0, 30)


def rumble(random: Random, count: int, rate: int) -> np.ndarray:
    """What a building, a stand and a microphone's own electronics leave below 150 Hz in most recordings, RMS one:
    steady noise that falls by 12 to 48 dB an octave above 15 to 100 Hz."""
    edge_hz, order = 15 * (100 / 15) ** random.random(), random.uniform(2, 8)
    noise = _lowest(random.standard_normal(count, dtype=np.float32), rate, 8, edge_hz, order)
    return noise / rms(noise)


def hum(random: Random, count: int, rate: int) -> np.ndarray:
    """Mains hum as cables pick it up: 50 or 60 Hz and harmonics, most of it low, hardly any other noise."""
    base_hz, tilt = float(random.choice([50, 60])) * random.uniform(0.998, 1.002), random.uniform(0.3, 2.0)
    time_s = np.arange(count, dtype=np.float32) / rate
    out = np.zeros(count, np.float32)
    for k in range(1, int(random.integers(2, 16))):
        size = k**-tilt * random.uniform(0.1, 1) * (0.3 if k % 2 == 0 else 1)  # odd ones are stronger
        out += np.float32(size) * np.sin(2 * np.pi * k * base_hz * time_s + random.uniform(0, 6.3)).astype(np.float32)
    return out / rms(out)


def cabin(random: Random, count: int, rate: int) -> np.ndarray:
    """Inside a car, bus or train: a road's noise that falls steeply from 30 to 150 Hz on, with a much softer tail
    above, an engine's orders that wander with its speed, swells and jolts."""
    white = random.standard_normal(count, dtype=np.float32)
    road = _lowest(white, rate, random.uniform(5, 20), 30 * 5 ** random.random(), random.uniform(3, 8))
    tail = _lowest(white, rate, 30, 200 * 5 ** random.random(), random.uniform(1, 2.5))
    swell = np.exp(_wander(random, count, rate, random.uniform(0, 0.4))).astype(np.float32)
    out = (road / rms(road) + tail / rms(tail) * 10 ** (random.uniform(-30, -8) / 20)) * swell
    if random.random() < 0.7:
        turns_hz = 12 * (80 / 12) ** random.random()
        phase = 2 * np.pi * np.cumsum(turns_hz / rate * np.exp(_wander(random, count, rate, random.uniform(0, 0.15))))
        engine = np.zeros(count, np.float32)
        for order in random.choice([0.5, 1, 1.5, 2, 3, 4, 6, 8], random.integers(2, 7), replace=False):
            engine += np.sin(order * phase + random.uniform(0, 6.3)).astype(np.float32) * random.uniform(0.1, 1)
        out += engine / rms(engine) * 10 ** (random.uniform(-20, 3) / 20) * swell
    for _ in range(random.integers(0, 4)):
        jolt = _lowest(_burst(random, random.uniform(0.05, 0.4), rate), rate, 5, random.uniform(40, 200), 3)
        _add(out, jolt / rms(jolt) * random.uniform(0.5, 4), int(random.integers(0, count)))
    return out / rms(out)


def ventilation(random: Random, count: int, rate: int) -> np.ndarray:
    """Air through ducts, a computer's or a projector's fan: steady noise that falls by 3 to 12 dB an octave above
    40 to 400 Hz, with the tones of blades that beat a little."""
    edge_hz = 40 * 10 ** random.random()
    air = _lowest(random.standard_normal(count, dtype=np.float32), rate, 15, edge_hz, random.uniform(0.5, 2.0))
    out = air / rms(air)
    time_s = np.arange(count, dtype=np.float32) / rate
    for _ in range(random.integers(0, 3)):
        blades_hz, beat_hz = 25 * 16 ** random.random(), random.uniform(0.1, 2)
        beat = 1 + random.uniform(0, 0.8) * np.sin(2 * np.pi * beat_hz * time_s)
        for k in range(1, int(random.integers(2, 6))):
            size = 10 ** (random.uniform(-24, -3) / 20) / k
            out += (size * beat * np.sin(2 * np.pi * k * blades_hz * time_s + random.uniform(0, 6))).astype(np.float32)
    return out / rms(out)


def handling(random: Random, count: int, rate: int) -> np.ndarray:
    """A microphone or its stand that is touched: thumps and scrapes, most of them below 300 Hz."""
    out = np.zeros(count, np.float32)
    for _ in range(random.integers(1, 10)):
        scrape = random.random() < 0.4
        length_s = random.uniform(0.2, 1.2) if scrape else random.uniform(0.03, 0.25)
        touch = _burst(random, length_s, rate) if not scrape else random.standard_normal(int(length_s * rate))
        if scrape:
            touch = touch * np.hanning(len(touch)) * (1 + 0.8 * _wander(random, len(touch), rate, 1.0))
        touch = _lowest(touch.astype(np.float32), rate, random.uniform(3, 20), 40 * 8 ** random.random(), 2.5)
        _add(out, touch / (rms(touch) + 1e-6) * np.float32(random.uniform(0.2, 2)), int(random.integers(0, count)))
    return out / rms(out)


def pops(random: Random, voice: np.ndarray, rate: int) -> np.ndarray:
    """What the breath of p, t and b does to a microphone near the mouth: thumps below 60 Hz that begin while
    ``voice`` ``[samples]`` is loud and are soon over; the largest peak is one."""
    out = np.zeros(len(voice), np.float32)
    loud = np.flatnonzero(np.abs(voice) >= 0.1 * np.abs(voice).max())
    time_s = np.arange(round(POP_S * rate), dtype=np.float32) / rate
    for _ in range(random.integers(1, 12)):
        rise_s, fall_s = random.uniform(0.003, 0.05), 0.025 * 6 ** random.random()
        puff = (1 - np.exp(-time_s / rise_s)) * np.exp(-time_s / fall_s)
        turn = 2 * np.pi * (random.uniform(0.2, 1.5) / fall_s * time_s + random.random())
        _add(out, puff * np.cos(turn) * random.uniform(0.2, 1), int(random.choice(loud)))
    out = _lowest(out, rate, random.uniform(1, 12), random.uniform(25, 60), random.uniform(3, 8))
    return out / np.abs(out).max()


def clicks(random: Random, count: int, rate: int) -> np.ndarray:
    """Mouse clicks, knocks, blows, things put down: short bursts of shaped noise at random times."""
    out = np.zeros(count, np.float32)
    for _ in range(random.integers(2, 14)):
        burst = _burst(random, 0.004 * 80 ** random.random(), rate) * random.uniform(0.2, 1.5)
        _add(out, burst, int(random.integers(0, max(1, count - len(burst)))))
    return out


def keys(random: Random, count: int, rate: int) -> np.ndarray:
    """Typing: every keyboard has a few sounds of its own; strokes follow each other as fingers do, and each key that
    goes down comes up again, softer."""
    out = np.zeros(count, np.float32)
    own = [_burst(random, random.uniform(0.006, 0.04), rate) for _ in range(4)]
    pace_s, spread = random.uniform(0.1, 0.35), random.uniform(0.2, 0.7)
    at_s = random.uniform(0, pace_s)
    while at_s * rate < count:
        level = 10 ** (random.normal(0, 3) / 20)
        up_s = random.uniform(0.05, 0.13)
        for begin_s, loud in ((at_s, level), (at_s + up_s, level * random.uniform(0.2, 0.6))):
            _add(out, own[int(random.integers(len(own)))] * loud, int(begin_s * rate))
        at_s += pace_s * float(np.exp(random.normal(0, spread)))
        if random.random() < 0.05:  # a thought
            at_s += random.uniform(0.3, 1.5)
    return out


def wind(random: Random, count: int, rate: int) -> np.ndarray:
    """Wind at a microphone: turbulence below some 100 Hz that comes in gusts, and brightens with them."""
    gust = np.exp(_wander(random, count, rate, random.uniform(0.3, 1.0))).astype(np.float32)
    edge_hz, order = 20 * 10 ** random.random(), random.uniform(1.2, 2.5)
    out = np.zeros(count, np.float32)
    for above, share, power in ((1.0, 1.0, 1.0), (random.uniform(4, 12), random.uniform(0.02, 0.3), 2.0)):
        layer = _lowest(random.standard_normal(count, dtype=np.float32), rate, 10, edge_hz * above, order)
        out += layer / rms(layer) * share * gust**power
    return out


def rain(random: Random, count: int, rate: int) -> np.ndarray:
    """Drops of all sizes on something that rings a little, over a bed of those too many to tell apart."""
    drops = max(1, int(count / rate * 30 * 100 ** random.random()))
    falls = np.zeros(count, np.float32)
    size = np.exp(random.normal(0, 1, drops)) * random.choice([-1, 1], drops)
    np.add.at(falls, random.integers(0, count, drops), size.astype(np.float32))
    ring = _burst(random, random.uniform(0.002, 0.015), rate)
    out = _ringing(falls, ring)
    bed = coloured(random, count, rate)
    return out / rms(out) + bed / rms(bed) * random.uniform(0, 1)


def motor(random: Random, count: int, rate: int) -> np.ndarray:
    """Engines, drills, hammers, saws: strokes that ring, as regular as a machine is, no two quite alike, over noise
    that swells with each turn."""
    turns_hz = 8 * (250 / 8) ** random.random()
    course = _wander(random, count, rate, random.uniform(0, 0.2))
    phase = np.cumsum(turns_hz / rate * np.exp(course))
    at = np.flatnonzero(np.diff(np.floor(phase), prepend=0))
    cylinders = np.exp(random.normal(0, random.uniform(0, 0.6), random.integers(1, 9)))
    strokes = np.zeros(count, np.float32)
    strokes[at] = cylinders[np.arange(len(at)) % len(cylinders)] * np.exp(random.normal(0, 0.15, len(at)))
    ring = _burst(random, 0.004 * 25 ** random.random(), rate)
    out = _ringing(strokes, ring)
    swell = 1 + random.uniform(0, 1) * np.cos(2 * np.pi * phase + random.uniform(0, 6.3))
    air = coloured(random, count, rate) * swell.astype(np.float32)
    return out / (rms(out) + 1e-6) + air / rms(air) * random.uniform(0, 1)


def alarm(random: Random, count: int, rate: int) -> np.ndarray:
    """Sirens, horns, beeps, birds far away: one to three rich tones, still, swept or in steps, often switched."""
    time_s = np.arange(count, dtype=np.float32) / rate
    pace_hz, octaves = 0.15 * (15 / 0.15) ** random.random(), random.choice([0, 0, 1]) + random.uniform(0, 0.6)
    turn = pace_hz * time_s + random.random()
    sweep = {
        0: np.zeros(count),
        1: np.sin(2 * np.pi * turn) / 2,
        2: turn % 1 - 0.5,
        3: np.round(turn % 1) - 0.5,
    }[int(random.integers(4))]
    out = np.zeros(count, np.float32)
    base_hz, tilt = 250 * (0.2 * rate / 250) ** random.random(), random.uniform(0.3, 2.5)
    for _ in range(random.integers(1, 4)):
        phase = 2 * np.pi * np.cumsum(base_hz / rate * 2 ** (octaves * sweep))
        top_hz = base_hz * 2 ** (octaves / 2)
        for k in range(1, min(12, int(0.45 * rate / top_hz)) + 1):
            out += np.sin(k * phase + random.uniform(0, 6.3)).astype(np.float32) * (k**-tilt * random.uniform(0.3, 1))
        base_hz *= random.uniform(1.1, 1.6)
    if random.random() < 0.6:
        on = (time_s * random.uniform(0.5, 8) + random.random()) % 1 < random.uniform(0.2, 0.9)
        out *= uniform_filter1d(on.astype(np.float32), max(1, rate // 200))
    return out / (rms(out) + 1e-6) + coloured(random, count, rate) * random.uniform(0, 3)


def cries(random: Random, count: int, rate: int) -> np.ndarray:
    """Dogs, birds, hinges, brakes: short glides with overtones and breath, now one, now a row of them."""
    out = np.zeros(count, np.float32)
    base_hz, tilt = 180 * (0.2 * rate / 180) ** random.random(), random.uniform(0.2, 2)
    length_s, breath = random.uniform(0.05, 0.6), random.uniform(0, 0.7) ** 2
    voice_hz, octaves = 400 * (4000 / 400) ** random.random(), random.uniform(-1, 1)
    at_s = random.uniform(0, 0.5)
    while at_s * rate < count:
        length = int(rate * length_s * random.uniform(0.7, 1.3))
        place = np.linspace(0, 1, length, dtype=np.float32)
        glide = base_hz * random.uniform(0.9, 1.1) * 2 ** (octaves * (place - 0.5) + 0.3 * np.sin(np.pi * place))
        phase = 2 * np.pi * np.cumsum(glide / rate)
        cry = breath * random.standard_normal(length, dtype=np.float32)
        for k in range(1, min(20, int(0.45 * rate / glide.max())) + 1):
            near = np.exp(-(np.log(k * base_hz / voice_hz) ** 2))
            cry += np.sin(k * phase).astype(np.float32) * np.float32(k**-tilt * (0.2 + near))
        cry *= np.minimum(1, 12 * place) * (1 - place) ** random.uniform(0.3, 2)
        _add(out, cry * 10 ** (random.normal(0, 4) / 20), int(at_s * rate))
        at_s += length_s + (random.uniform(0.02, 0.4) if random.random() < 0.7 else random.uniform(0.5, 2))
    return out


def texture(random: Random, spectrum: np.ndarray, course: np.ndarray, rate: int) -> np.ndarray:
    """A noise with the long-term spectrum of one recording and the envelope of another, both ``[samples]``: recordings
    of noise are few, pairs of them are many. With a voice's envelope, close to the noises of ICRA (Dreschler 2001)."""
    count = len(spectrum)
    size = np.abs(fft.rfft(spectrum))
    width = max(1, int(count / rate * 10 * 30 ** random.random()))  # 10 to 300 Hz
    size = np.sqrt(uniform_filter1d(size**2, width))
    steady = fft.irfft(size * np.exp(2j * np.pi * random.random(len(size), dtype=np.float32)), count)
    span = max(1, int(rate * random.uniform(0.01, 0.06)))
    envelope = np.sqrt(np.maximum(uniform_filter1d(course.astype(np.float32) ** 2, span), 0) + 1e-10)
    return (steady * envelope ** random.uniform(0.3, 1.0)).astype(np.float32)


def _wander(random: Random, count: int, rate: int, depth: float) -> np.ndarray:
    """A slow random course around zero, ``[count]``, as wide as ``depth``, that turns 0.3 to 4 times a second."""
    knots = max(4, int(count / rate * random.uniform(0.3, 4)) + 3)
    return np.interp(np.linspace(0, knots - 1, count), np.arange(knots), random.normal(0, depth, knots))


def _burst(random: Random, seconds: float, rate: int) -> np.ndarray:
    """A short noise that dies away, of random colour, RMS one."""
    length = max(8, int(rate * seconds))
    decay = np.exp(-np.arange(length, dtype=np.float32) / length * random.uniform(3, 9))
    burst = coloured(random, length + length % 2, rate)[:length] * decay
    return burst / (rms(burst) + 1e-6)


def _ringing(strokes: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """What is heard when each sample of ``strokes`` sets off a ``ring`` of its own size; as long as ``strokes``."""
    padded = fft.next_fast_len(len(strokes) + len(ring), real=True)
    return fft.irfft(fft.rfft(strokes, padded) * fft.rfft(ring, padded), padded)[: len(strokes)]


def _lowest(x: np.ndarray, rate: int, from_hz: float, to_hz: float, order: float) -> np.ndarray:
    """What of ``x`` lies above ``from_hz`` (6 dB an octave) and below ``to_hz`` (6 dB an octave for each order)."""
    hz = np.linspace(0, rate / 2, len(x) // 2 + 1, dtype=np.float32)
    return fft.irfft(fft.rfft(x) * (hz / (hz + from_hz) / (1 + (hz / to_hz) ** order)), len(x))


def _add(out: np.ndarray, x: np.ndarray, at: int) -> None:
    if at < len(out):
        out[at : at + len(x)] += x[: len(out) - at]
