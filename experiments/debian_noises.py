"""Noises for training out of Debian packages: engines, rotors, machines, water, things that fall, break and are put
down, from games and programs whose licences allow it.

``python experiments/debian_noises.py OUT`` downloads about 3.3 GB with ``apt-get download``, installs nothing, and
writes ``OUT/noise/SOURCE/*.flac`` (mono, 48 kHz) with a ``manifest.csv`` as ``rtdenoise train`` and ``devset`` read it.
Finished packages are not downloaded again. Short sounds stand one behind the other in a file; an engine's loop is
played on at a speed that wanders.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from rtdenoise import console
from rtdenoise.errors import RtdenoiseError
from rtdenoise.io.atomic import write_text

RATE, LEAST_RATE = 48000, 11025
LOOP = re.compile(
    "engine|motor|helic|rotor|prop|jet|idle|tank|vehicle|v10|impreza|viper|evo|renault|f1|kart|wind_|axle|turbine|stall"
    "|hum|rain|fire|skid|roll|drive|truck|train|bus|ship"
)
LONGEST_LOOP_S, LOOP_S, LONGEST_S, FILE_S = 6, 12, 90, 300  # the last: of a file, about
SHORTEST_S, CUT_S, GAP_S, FADE_S = 0.1, 0.01, 0.15, 0.005
SPEED_SPREAD = 0.12  # of the logarithm of a loop's speed
LEVEL_DBFS, LOUD, PEAK, CLIPPED, FULL_SCALE, SILENT = -26, 1e-3, 0.9, 0.02, 0.999, 1e-3
FRAME = 960  # 20 ms
COLUMNS = ("path", "kind", "source", "who", "seconds", "rate", "licence", "nc")


@dataclass(frozen=True)
class Package:
    """``wanted`` and ``unwanted``: of the paths in it; voices and music are unwanted."""

    source: str
    licence: str
    wanted: str
    unwanted: str = "^$"


PACKAGES = {
    "torcs-data": Package("torcs", "GPL-2.0-or-later", r"/data/(sound|cars/.*)/[^/]+\.wav$"),
    "searchandrescue-data": Package("searchandrescue", "GPL-2.0", r"/sounds/[^/]+\.wav$", "voice|radio"),
    "flightgear-data-base": Package(
        "flightgear", "GPL-2.0-or-later", r"/Sounds/[^/]+\.wav$", "tcas|mk-viii|atc|morse|voice"
    ),
    "scratch": Package("scratch", "CC BY-SA 3.0", r"/Sounds/(Effects|Animal|Percussion)/[^/]+\.(wav|mp3)$"),
    "supertuxkart-data": Package(
        "supertuxkart",
        "CC BY-SA 3.0 / CC BY 3.0 / CC0 / GPL-2.0-or-later",
        r"/data/(sfx|(tracks|karts)/.*)/[^/]+\.ogg$",
    ),
    "simutrans-pak64": Package("simutrans", "Artistic-1.0", r"/sound/[^/]+\.wav$"),
    "wesnoth-1.16-data": Package(
        "wesnoth_effects",
        "GPL-2.0-or-later",
        r"/sounds/.*\.(ogg|wav)$",
        "human|female|male|orc|troll|goblin|ogre|elf|dwarf|lich|hurt|die|cough|laugh|voice",
    ),
    "scorched3d-data": Package("scorched3d", "GPL-2.0-or-later", r"/wav/.*\.wav$", "talk|voice|say"),
    "unknown-horizons": Package("unknown_horizons", "GPL-2.0-or-later / CC BY-SA 3.0", r"/audio/sounds/.*\.ogg$"),
    "brainparty-data": Package("brainparty", "GPL-3.0-or-later", r"/brainparty/[^/]+\.wav$"),
    "crossfire-client": Package("crossfire", "GPL-2.0-or-later", r"/sounds/[^/]+\.(wav|ogg)$"),
    "caveexpress-data": Package("caveexpress", "CC BY-SA 4.0", r"/sounds/[^/]+\.ogg$", "pain|npc|player"),
    "freeorion-data": Package("freeorion", "CC BY-SA 3.0", r"/sound/.*\.ogg$", "music"),
    "lincity-ng-data": Package("lincity", "GPL-2.0-or-later", r"/sounds/[^/]+\.wav$"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--only", nargs="+", choices=PACKAGES, default=list(PACKAGES), metavar="PACKAGE")
    args = parser.parse_args()
    try:
        for name in args.only:
            if not (args.out / "noise" / PACKAGES[name].source).exists():
                _convert(name, PACKAGES[name], args.out)
        _list(args.out)
    except (RtdenoiseError, OSError) as error:  # the latter also where there is no apt-get or dpkg-deb
        console.say(f"error: {error}")
        return 1
    return 0


def _convert(name: str, package: Package, out: Path) -> None:
    random = np.random.default_rng(list(name.encode()))
    kinds: dict[str, list[np.ndarray]] = {"machines": [], "effects": []}
    for path, data in _members(name, package):
        sound = _read(data)
        if sound is None:
            continue
        x, rate = sound
        if LOOP.search(path.rpartition("/")[2].lower()) and len(x) < LONGEST_LOOP_S * rate:
            kinds["machines"].append(
                _finished(_played_on(random, x[int(CUT_S * rate) : -int(CUT_S * rate)], rate), rate)
            )
        else:
            ramp = np.minimum(1, np.arange(len(x)) / (FADE_S * rate)).astype(np.float32)
            gap = np.zeros(int(random.uniform(0, GAP_S) * RATE), np.float32)
            kinds["effects"] += [_finished(x * ramp * ramp[::-1], rate), gap]
    unfinished = out / "noise" / f".{package.source}"  # A run that was stopped leaves no half of a package.
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for kind, sounds in kinds.items():
        for k, part in enumerate(_parts(sounds)):
            sf.write(unfinished / f"{kind}-{k}.flac", part, RATE, "PCM_16")
    unfinished.rename(out / "noise" / package.source)
    seconds = sum(len(x) for sounds in kinds.values() for x in sounds) / RATE
    console.say(f"{name}: {seconds / 60:.1f} minutes")


def _members(name: str, package: Package) -> Iterator[tuple[str, bytes]]:
    """Path and content of every wanted file of a package, each content once."""
    wanted, unwanted, seen = re.compile(package.wanted), re.compile(package.unwanted), set()
    with tempfile.TemporaryDirectory() as folder:
        got = subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        files = list(Path(folder).glob("*.deb"))
        if got.returncode or not files:
            raise RtdenoiseError(f"cannot download {name}: {got.stderr.strip()[-200:]}; run apt-get update, then again")
        unpack = ["dpkg-deb", "--fsys-tarfile", str(files[0])]
        with (
            subprocess.Popen(unpack, stdout=subprocess.PIPE) as unpacking,
            tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive,
        ):
            for member in archive:
                if not member.isfile() or not wanted.search(member.name) or unwanted.search(member.name):
                    continue
                data = archive.extractfile(member).read()  # type: ignore[union-attr]
                digest = hashlib.sha256(data).digest()
                if digest not in seen:
                    seen.add(digest)
                    yield member.name, data


def _read(data: bytes) -> tuple[np.ndarray, int] | None:
    """Mono samples and rate of a sound that can serve as noise, else nothing."""
    try:
        x, rate = sf.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except sf.LibsndfileError:
        return None
    mono = x.mean(1)
    usable = rate >= LEAST_RATE and len(x) >= SHORTEST_S * rate and (np.abs(x) >= FULL_SCALE).mean() <= CLIPPED
    return (mono, rate) if usable and np.abs(mono).max() > SILENT else None


def _played_on(random: np.random.Generator, x: np.ndarray, rate: int) -> np.ndarray:
    """A loop for `LOOP_S`, at a speed that wanders."""
    count, knots = LOOP_S * rate, int(random.integers(3, 9))
    course = np.interp(np.linspace(0, knots - 1, count), np.arange(knots), random.normal(0, SPEED_SPREAD, knots))
    at = np.cumsum(np.exp(course)) + random.uniform(0, len(x))
    before, share = at.astype(int) % len(x), (at % 1).astype(np.float32)
    return x[before] * (1 - share) + x[(before + 1) % len(x)] * share


def _finished(x: np.ndarray, rate: int) -> np.ndarray:
    """At the common rate and level, the loud parts' level being what counts."""
    x = soxr.resample(x, rate, RATE, "HQ")[: LONGEST_S * RATE].astype(np.float32)
    frames = x[: len(x) // FRAME * FRAME].reshape(-1, FRAME) if len(x) >= FRAME else x[None]
    power = (frames**2).mean(1)
    level = float(np.sqrt(power[power >= LOUD * power.max()].mean()))
    return x * np.float32(min(10 ** (LEVEL_DBFS / 20) / level, PEAK / np.abs(x).max()))


def _parts(sounds: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Sounds one behind the other, in files of about `FILE_S`."""
    part: list[np.ndarray] = []
    for sound in sounds:
        part.append(sound)
        if sum(map(len, part)) > FILE_S * RATE:
            yield np.concatenate(part)
            part = []
    if part:
        yield np.concatenate(part)


def _list(out: Path) -> None:
    """``manifest.csv`` of all that has been converted."""
    listing = csv.writer(text := io.StringIO(), lineterminator="\n")
    listing.writerow(COLUMNS)
    hours = 0.0
    for package in PACKAGES.values():
        for path in sorted((out / "noise" / package.source).glob("*.flac")):
            seconds = sf.info(path).duration
            hours += seconds / 3600
            row = (path.relative_to(out).as_posix(), "noise", package.source, path.stem, round(seconds, 1))
            listing.writerow((*row, RATE, package.licence, 0))
    write_text(out / "manifest.csv", text.getvalue())
    console.say(f"{hours:.2f} h in {out}; next: rtdenoise train RECIPE --noise {out}/noise/* NOISES ...")


if __name__ == "__main__":
    sys.exit(main())
