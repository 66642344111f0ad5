"""``rtdenoise devset``: pairs to choose between candidates by, of recordings that no training draws from; equal seeds
write equal files.

Two sets: *dev*, of the voices and noises that `Clip.is_dev` keeps out of training, and *foreign*, of collections that
training leaves out altogether (nc = 1 in their manifest). Plain recorded speech under one recorded noise, every second
pair with a recorded rumble of a vehicle or a ventilation beside it, every fourth in a recorded room; nothing is taken
from the trainer's own mixer, which a network could have learnt to please.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from scipy import signal

from rtdenoise import console
from rtdenoise.arguments import count, number
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.atomic import write_text
from rtdenoise.training.data import augment
from rtdenoise.training.data.clips import FULL_SCALE, dynamic_range_db, read_audio
from rtdenoise.training.data.material import Clip, Kind, find_clips, says_kinds
from rtdenoise.training.data.mix import write
from rtdenoise.training.data.whisper import whispered
from rtdenoise.training.metrics import frames_of, high_passed

DEV, FOREIGN = "dev", "foreign"
WHY = {DEV: " that training keeps out", FOREIGN: " with nc = 1 in the corpus"}
SNRS_DB = (-2.5, 2.5, 7.5, 12.5, 17.5)  # The active level of the voice over the noise.
RUMBLE_SNR_DB = (-8.0, 12.0)
RUMBLE_HZ = 150.0
RUMBLES = {  # words in the labels of recordings that rumble; UrbanSound8K numbers its classes
    *("airplane", "bus", "cabin", "conditioner", "dryer", "engine", "fan", "laundry", "motor", "road", "traffic"),
    *("train", "truck", "vehicle", "ventilation", "washing"),
    *("class0", "class5"),  # air conditioner, idling engine
}
VOICE_FROM_HZ = 60.0
LEVEL_DBFS = (-35.0, -20.0)  # The level of the active voice.
PEAK = 0.98
LEAST_RANGE_DB = 35.0  # A voice with less has hardly any pauses, or noise of its own.
ACTIVE_DB, ACTIVE_SHARE = 30.0, 0.65  # A stretch is chosen with about this share of active frames: words and pauses.
TRIES = 6
ROOM_S = 1.0
WIDE_RATE, NARROW_RATE = 48000, 16000
LISTENED_S = 60.0  # The pauses of a voice are judged by this much of it.
WIDE_FROM = 40000  # From this sample rate of its voice on a pair is a wideband one.
FADE_S = 0.01
QUARTERS = tuple(range(0, 101, 25))  # Percent.
SOUNDS: tuple[Kind, ...] = ("speech", "noise")
Random = np.random.Generator


@dataclass(frozen=True)
class Sources:
    """What a set is made of."""

    voices: list[Clip]
    noises: list[Clip]
    rumbles: list[Clip]
    rooms: list[Clip]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--corpus", type=Path, nargs="+", required=True, metavar="DIR", help="folders with a manifest.csv, as for train"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for dev/ and foreign/")
    parser.add_argument(
        "--pairs", type=count(), default=40, metavar="N", help="number of pairs in each set (default 40)"
    )
    parser.add_argument(
        "--seconds", type=number(1, 3_600, "seconds"), default=4.5, help="length of a pair (default 4.5)"
    )
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="SOURCE", help="collections to leave out, such as synthetic voices"
    )
    parser.add_argument(
        "--voices", nargs="+", default=[], metavar="SOURCE", help="take voices of these collections alone"
    )
    parser.add_argument(
        "--in-rooms",
        type=int,
        choices=QUARTERS,
        default=25,
        help="percent of the pairs that lie in a recorded room (default 25)",
    )
    parser.add_argument(
        "--whispered",
        type=int,
        choices=QUARTERS,
        default=0,
        help="percent of the voices that whisper: breath in place of the vocal folds (default 0)",
    )
    parser.add_argument("--seed", type=count(0), default=0)


def run(args: argparse.Namespace) -> int:
    for folder in args.corpus:
        if not says_kinds(folder):
            raise UsageError(f"{folder} has no manifest.csv (path, kind, source, who, nc); see `rtdenoise train`")
    sets = sources(args.corpus, set(args.without), set(args.voices))
    complete = {name for name, of in sets.items() if of.voices and of.noises}
    if not complete or (DEV not in complete and not args.voices):
        of_these = f" of {', '.join(args.voices)}" if args.voices else ""
        raise UsageError(
            f"the corpus keeps no voice{of_these} or no noise out of training; give more folders with --corpus"
        )
    for k, (name, of) in enumerate(sets.items()):
        if name not in complete:
            console.say(f"no {name} pairs: no {'such voice' if args.voices else 'speech'} or no noise{WHY[name]}")
            continue
        if (args.out / name).exists():
            raise UsageError(f"{args.out / name} already exists; remove it, or give --out another folder")
        random, shares = np.random.default_rng([args.seed, k]), (args.in_rooms, args.whispered)
        build(args.out / name, of, random, args.pairs, args.seconds, *shares)
        console.say(f"{args.out / name}: {args.pairs} pairs of {len(of.voices)} voices and {len(of.noises)} noises")
    return 0


def sources(corpus: Sequence[Path], without: set[str], voices: set[str]) -> dict[str, Sources]:
    """What the two sets may be made of: speech of all collections, or of ``voices`` alone. Rumbles are few: both take
    from all."""
    found: dict[str, dict[Kind, list[Clip]]] = {DEV: {}, FOREIGN: {}}
    for kind in SOUNDS:
        for name, nc in ((DEV, "0"), (FOREIGN, "1")):
            clips = [c for folder in corpus for c in find_clips(folder, kind, nc) if c.source not in without]
            if kind == "speech" and voices:
                clips = [c for c in clips if c.source in voices]
            found[name][kind] = clips if name == FOREIGN else [c for c in clips if c.is_dev]
    rumbles = [c for kinds in found.values() for c in kinds["noise"] if rumbles_by_name(c)]
    rooms = [c for folder in corpus for c in find_clips(folder, "rir")]
    return {name: Sources(kinds["speech"], kinds["noise"], rumbles, rooms) for name, kinds in found.items()}


def rumbles_by_name(clip: Clip) -> bool:
    return bool(RUMBLES & {*re.split(r"[^a-z0-9]+", clip.speaker.lower())})


def build(
    folder: Path,
    of: Sources,
    random: Random,
    pairs: int,
    seconds: float,
    in_rooms_percent: int,
    whispered_percent: int,
) -> None:
    """One set: noisy/, clean/, and pairs.csv, which says what each pair is made of."""
    roomy, breathy = ([q < share for q in QUARTERS[:-1]] for share in (in_rooms_percent, whispered_percent))
    speaking = [c for c in of.voices if usable(c, seconds)]
    if not speaking:
        raise UsageError(f"no voice of the {folder.name} set speaks {seconds:g} s with quiet pauses; give other voices")
    voices = in_turn(random, speaking)
    noises, rumbles, rooms = in_turn(random, of.noises), in_turn(random, of.rumbles), in_turn(random, of.rooms)
    snrs, rumbling, in_rooms, whispering = (rounds(random, x) for x in (SNRS_DB, (True, False), roomy, breathy))
    for side in ("noisy", "clean"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    rows = []
    for k in range(pairs):
        voice, noise, snr_db = next(voices), next(noises), float(next(snrs))
        rumble = next(rumbles) if next(rumbling) and of.rumbles else None
        room = next(rooms) if next(in_rooms) and of.rooms else None
        rumble_snr_db = random.uniform(*RUMBLE_SNR_DB)
        rate = WIDE_RATE if described(voice)[0] > WIDE_FROM else NARROW_RATE
        spoken = spoken_stretch(random, voice, rate, seconds)
        whispers = whispered_percent > 0 and next(whispering)  # without any, all else is drawn as before
        if whispers:
            spoken = whispered(random, spoken, rate)
        if room:
            response = augment.direct_first(read_audio(room.path, rate)[:, 0], rate, ROOM_S)
            spoken = signal.fftconvolve(spoken, response)[: len(spoken)]
        level = active_level(spoken, rate)
        heard = spoken + at_snr(loud_stretch(random, noise, rate, seconds), level, snr_db)
        if rumble:
            low = low_passed(loud_stretch(random, rumble, rate, seconds), rate)
            heard = heard + at_snr(low, level, rumble_snr_db)
        gain = 10 ** (random.uniform(*LEVEL_DBFS) / 20) / level
        gain = min(gain, PEAK / float(np.abs(heard).max()))
        words = [f"{folder.name}{k:03d}", voice.source, noise.source, noise.speaker, f"{snr_db:g}dB"]
        pair = "_".join(re.sub(r"[^\w.+-]+", "-", word) for word in words) + "_rumble" * bool(rumble)
        write(folder / "noisy" / f"{pair}.flac", gain * heard, rate)
        write(folder / "clean" / f"{pair}.flac", gain * high_passed(spoken, VOICE_FROM_HZ, rate), rate)
        rows.append(
            {
                "pair": pair,
                "voice": f"{voice.source}/{voice.speaker}",
                "noise": f"{noise.source}/{noise.speaker}",
                "snr_db": snr_db,
                "rumble": f"{rumble.source}/{rumble.speaker}" if rumble else "",
                "rumble_snr_db": f"{rumble_snr_db:.1f}" if rumble else "",
                "room": f"{room.source}/{room.path.stem}" if room else "",
                "whispered": "yes" if whispers else "",
                "rate": rate,
            }
        )
    listing = io.StringIO(newline="")
    table = csv.DictWriter(listing, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write_text(folder / "pairs.csv", listing.getvalue())


def in_turn(random: Random, clips: list[Clip]) -> Iterator[Clip]:
    """Every clip once before one comes again, collections by turns; in an order by chance."""
    while clips:
        by_source: dict[str, list[Clip]] = {}
        for i in random.permutation(len(clips)):
            by_source.setdefault(clips[i].source, []).append(clips[i])
        for turn in zip_longest(*by_source.values()):
            yield from (clip for clip in turn if clip)


def rounds(random: Random, values: Sequence[Any]) -> Iterator[Any]:
    """Every value once before one comes again, in an order by chance."""
    while True:
        yield from random.permutation(values)


def described(clip: Clip) -> tuple[int, float]:
    """Sampling rate and seconds of a file."""
    try:
        about = sf.info(clip.path)
    except (sf.SoundFileError, OSError) as error:
        raise RtdenoiseError(f"cannot read {clip.path}: {error}; take it out of the manifest") from error
    return about.samplerate, about.frames / about.samplerate


def usable(clip: Clip, seconds: float) -> bool:
    """Whether a voice speaks long enough, with pauses that are quiet."""
    if described(clip)[1] < seconds:
        return False
    voice = (read_audio(clip.path, NARROW_RATE, 0, LISTENED_S)[:, 0] * FULL_SCALE).astype(np.int16)
    return dynamic_range_db(voice, NARROW_RATE) >= LEAST_RANGE_DB


def stretches(random: Random, clip: Clip, rate: int, seconds: float, tries: int) -> list[np.ndarray]:
    """Parts of a recording by chance, ``[seconds * rate]`` each; a short recording goes round."""
    begins_s = random.uniform(0, max(0.0, described(clip)[1] - seconds), tries)
    parts = [read_audio(clip.path, rate, begin_s, seconds)[:, 0] for begin_s in begins_s]
    return [np.resize(part, round(seconds * rate)).astype(float) for part in parts]


def spoken_stretch(random: Random, clip: Clip, rate: int, seconds: float) -> np.ndarray:
    """A part whose share of speech is near `ACTIVE_SHARE`, faded at its ends."""
    parts = stretches(random, clip, rate, seconds, TRIES)
    best = min(parts, key=lambda x: abs(np.mean(active_frames(x, rate)[1]) - ACTIVE_SHARE))
    ramp = np.linspace(0, 1, round(FADE_S * rate))
    best[: len(ramp)] *= ramp
    best[-len(ramp) :] *= ramp[::-1]
    return best


def loud_stretch(random: Random, clip: Clip, rate: int, seconds: float) -> np.ndarray:
    """The loudest of some parts, so that a noise that comes and goes is there."""
    return max(stretches(random, clip, rate, seconds, TRIES // 2), key=augment.rms)


def low_passed(x: np.ndarray, rate: int) -> np.ndarray:
    sections = signal.butter(4, RUMBLE_HZ, "lowpass", fs=rate, output="sos")
    return signal.sosfilt(sections, x)


def at_snr(noise: np.ndarray, level: float, snr_db: float) -> np.ndarray:
    return noise * (level / augment.rms(noise) * 10 ** (-snr_db / 20))


def active_frames(x: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Energy of each 20 ms, and whether it lies within `ACTIVE_DB` of the loudest."""
    energy = np.mean(np.square(frames_of(x, rate // 50, rate // 50)), 1)
    return energy, energy > energy.max() * 10 ** (-ACTIVE_DB / 10)


def active_level(x: np.ndarray, rate: int) -> float:
    energy, active = active_frames(x, rate)
    return float(np.sqrt(np.mean(energy[active])))
