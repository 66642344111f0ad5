"""Kill -9 at random moments: no half file under its final name, nothing left after the next start, no hang.

    python tests/stress/kill_anywhere.py --kills 200        # some twenty minutes, on Linux

Each round starts the command, kills one of its processes at a random moment of its life (the command itself or a
worker), looks at what is there, starts the same again, and looks once more. `KINDS` says what may be there.
Prints every fault and counts them; the exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "bench")]

import graphs  # noqa: E402
from rtdenoise_bench.testbed import servers  # noqa: E402

RATE = 16_000
IDLE_S, WORK_S = 60.0, 300.0  # a process hangs that does nothing so long, or has worked longer than any should
MARK = "RTDENOISE_KILL_ANYWHERE"
# Imports once, then lives every start of the command in a child: seconds of importing, in which nothing can be half
# written, would swallow most of the moments. Says the child's number, and how it ended.
TEMPLATE = """
import json, os, sys
import rtdenoise.cli.main
{preload}
for line in sys.stdin:
    wish = json.loads(line)
    if not (pid := os.fork()):
        os.environ["RTDENOISE_KILL_ANYWHERE"] = wish["RTDENOISE_KILL_ANYWHERE"]
        for fd, name, how in ((0, "stdin", os.O_RDONLY), (1, os.devnull, os.O_WRONLY), (2, "said", 0o1101)):
            os.dup2(os.open(wish.get(name, name), how, 0o600), fd)
        sys.exit(rtdenoise.cli.main.main(wish["argv"]))
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""
RECIPE = """
network = "unet"
[options]
channels = [4, 4, 8]
pitch = 4
head = 4
[data]
seconds = 0.5
batch = 2
[schedule]
steps = 4
warmup = 1
save_every = 1
validate_every = 4
"""


class Scene:
    """One kind of work in a folder of its own. ``look`` returns what is wrong, ``again`` too after the next start."""

    preload = "import rtdenoise.core.denoiser, rtdenoise.io.sound_source, rtdenoise.io.batch"

    def __init__(self, folder: Path, model: Path):
        self.folder, self.model = folder, model
        self.env = dict(os.environ)
        self.make()

    def make(self) -> None: ...

    def argv(self) -> list[str]:
        raise NotImplementedError

    def stdin(self) -> Path | None:
        return None

    def clear(self, random: random.Random) -> None:
        """Before a round: the state from which it starts."""

    def look(self) -> list[str]:
        return []

    def again(self) -> list[str]:
        """After the next start, which was not disturbed."""
        return self.look()

    def wrong_sounds(self, place: Path, allowed: dict[str, list[bytes]]) -> list[str]:
        """Names in a folder that should not be there, or hold what they should not."""
        wrong = []
        for path in place.iterdir() if place.is_dir() else ():
            if path.name not in allowed:
                wrong.append(f"{path.name} is there")
            elif sound_of(path) not in allowed[path.name]:
                wrong.append(f"{path.name} is neither old nor whole")
        return wrong


def sound_of(path: Path) -> bytes:
    """The samples of a file; of one that is no sound, its bytes."""
    try:
        return soundfile.read(path, dtype="int16")[0].tobytes()
    except soundfile.LibsndfileError:
        return path.read_bytes()


class File(Scene):
    """An output that holds something old, or does not exist."""

    def make(self) -> None:
        noise = 0.1 * np.random.default_rng(0).standard_normal(40 * RATE)
        soundfile.write(self.folder / "in.wav", noise, RATE)
        self.out = self.folder / "out"
        self.out.mkdir()

    def argv(self) -> list[str]:
        return ["--in", str(self.folder / "in.wav"), "--out", str(self.out / "out.wav"), "--model", str(self.model)]

    def whole(self) -> list[bytes]:
        return [sound_of(self.folder / "in.wav")]

    def clear(self, random: random.Random) -> None:
        (self.out / "out.wav").unlink(missing_ok=True)
        if random.random() < 0.5:
            (self.out / "out.wav").write_bytes(b"old")

    def look(self) -> list[str]:
        return [w for w in self.wrong_sounds(self.out, {"out.wav": [b"old", *self.whole()]}) if not w.startswith(".")]

    def again(self) -> list[str]:
        missing = [] if (self.out / "out.wav").exists() else ["out.wav is missing"]
        return missing + self.wrong_sounds(self.out, {"out.wav": self.whole()})


class Pipe(File):
    """The same from standard input."""

    def argv(self) -> list[str]:
        return ["--in", "-", "--out", str(self.out / "out.wav"), "--model", str(self.model)]

    def stdin(self) -> Path:
        return self.folder / "in.wav"


class Folder(Scene):
    """Two workers and six files."""

    def make(self) -> None:
        (self.folder / "in").mkdir()
        self.out = self.folder / "out"
        for k in range(6):
            noise = 0.1 * np.random.default_rng(k).standard_normal((k + 2) * 4 * RATE)
            soundfile.write(self.folder / f"in/{k}.wav", noise, RATE)
        self.sounds = {f"{k}.wav": [sound_of(self.folder / f"in/{k}.wav")] for k in range(6)}

    def argv(self) -> list[str]:
        ends = ["--in", str(self.folder / "in"), "--out", str(self.out)]
        return [*ends, "--jobs", "2", "--model", str(self.model)]

    def clear(self, random: random.Random) -> None:
        for path in self.out.iterdir() if self.out.is_dir() else ():
            path.unlink()

    def look(self) -> list[str]:
        return [w for w in self.wrong_sounds(self.out, self.sounds) if not w.startswith(".")]

    def again(self) -> list[str]:
        missing = [f"{name} is missing" for name in self.sounds if not (self.out / name).exists()]
        return missing + self.wrong_sounds(self.out, self.sounds)


class Live(Scene):
    """The virtual microphone and a recording, on a sound server of its own."""

    preload = "import rtdenoise.cli.live, rtdenoise.io.sound_sink"

    def argv(self) -> list[str]:
        out = self.folder / "talk.wav"
        ends = ["--in", "A.monitor", "--out", "virtual-mic", "--tee", str(out), "--seconds", "3"]
        return [*ends, "--quiet", "--model", str(self.model)]

    def make(self) -> None:
        self.server = contextlib.ExitStack()
        self.env = self.server.enter_context(servers.pulseaudio())
        self.modules = self.listed()

    def listed(self) -> list[str]:
        argv = ["pactl", "list", "short", "modules"]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, check=True).stdout.splitlines()

    def clear(self, random: random.Random) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def look(self) -> list[str]:
        talk = self.folder / "talk.wav"
        return ["talk.wav holds no sound"] if talk.exists() and not soundfile.info(talk).frames else []

    def again(self) -> list[str]:
        wrong = self.look()
        if self.listed() != self.modules:
            wrong.append("a module is left")
        strange = [p.name for p in self.folder.iterdir() if p.name != "talk.wav" and ".interrupted-" not in p.name]
        return wrong + [f"{name} is left" for name in strange]


class Training(Scene):
    """Checkpoints, saved at every step; the next start resumes."""

    preload = "from rtdenoise.training import train, validate; validate.PAIRS, validate.SECONDS = 2, 1.5"

    def make(self) -> None:
        random = np.random.default_rng(0)
        for name in ("clean", "noise"):
            (self.folder / name).mkdir()
            for k in range(3):
                tone = np.sin(2 * np.pi * 150 * np.arange(3 * RATE) / RATE) if name == "clean" else 0
                sound = 0.2 * tone + 0.1 * random.standard_normal(3 * RATE)
                soundfile.write(self.folder / name / f"{k}.wav", sound, RATE)
        (self.folder / "tiny.toml").write_text(RECIPE)
        self.out = self.folder / "run"

    def argv(self) -> list[str]:
        audio = ["--clean", str(self.folder / "clean"), "--noise", str(self.folder / "noise")]
        cache = ["--cache", str(self.folder / "cache"), "--out", str(self.out)]
        resume = ["--resume"] if (self.out / "last.pt").exists() else []
        return ["train", str(self.folder / "tiny.toml"), *audio, *cache, *resume]

    def clear(self, random: random.Random) -> None:
        for path in self.out.iterdir() if self.out.is_dir() else ():
            path.unlink()

    def look(self) -> list[str]:
        from rtdenoise.training.trainer import load_checkpoint

        wrong = []
        for path in self.out.glob("[!.]*.pt") if self.out.is_dir() else ():
            try:
                load_checkpoint(path)
            except Exception as problem:
                wrong.append(f"{path.name} is not whole: {problem}")
        return wrong

    def again(self) -> list[str]:
        left = [f"{p.name} is left" for p in self.out.iterdir() if p.name.startswith(".")]
        missing = [] if (self.out / "last.pt").exists() else ["last.pt is missing"]
        return self.look() + left + missing


KINDS: dict[str, type[Scene]] = {"file": File, "folder": Folder, "pipe": Pipe, "live": Live, "training": Training}


class Rounds:
    """Kills one kind of work at random moments; ``faults`` says what went wrong."""

    def __init__(self, kind: str, folder: Path, model: Path, seed: int):
        self.random, self.faults, self.killed = random.Random(seed), list[str](), Counter[str]()
        self.scene = KINDS[kind](folder, model)
        self.kind, self._said = kind, folder.parent / "said"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        line = [sys.executable, "-c", TEMPLATE.format(preload=self.scene.preload)]
        self._template = subprocess.Popen(line, env=self.scene.env | {"PYTHONPATH": str(ROOT)}, **pipes)
        self.scene.clear(random.Random(0))
        self._finish(self._start(), "the first start")  # which may compile
        self.scene.clear(random.Random(0))
        began = time.monotonic()
        self._finish(self._start(), "the second start")
        self.length_s = time.monotonic() - began
        self.faults += [f"undisturbed: {wrong}" for wrong in self.scene.again()]

    def close(self) -> None:
        self._template.communicate()  # it ends with its input
        if isinstance(self.scene, Live):
            self.scene.server.close()

    def kill(self) -> None:
        """One round. A moment that came too late is drawn again: a busy machine is now slow, now fast."""
        scene, victim, began = self.scene, None, 0.0
        while victim is None:
            scene.clear(self.random)
            began, at = time.monotonic(), self.random.uniform(0, self.length_s)
            process = self._start()
            while time.monotonic() < began + at and is_running(process):
                time.sleep(0.002)
            if alive := self._alive(process):
                victim = self.random.choice(alive)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, 9)
            else:
                self.length_s = time.monotonic() - began
                self._finish(process, "undisturbed")
        self.killed["the command" if victim == process else "a worker"] += 1
        where = f"{self.kind} killed after {at:.2f} s"
        self._finish(process, where, killed=True)
        self.faults += [f"{where}: {wrong}" for wrong in scene.look()]
        self._finish(self._start(), f"{where}: the next start")
        self.faults += [f"{where}: after the next start: {wrong}" for wrong in scene.again()]

    def _start(self) -> int:
        self.mark = uuid.uuid4().hex
        stdin = self.scene.stdin()
        assert self._template.stdin is not None
        request = {
            "argv": self.scene.argv(),
            "stdin": str(stdin or os.devnull),
            "said": str(self._said),
            MARK: self.mark,
        }
        self._template.stdin.write(json.dumps(request) + "\n")
        self._template.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        """The next line of the template: the number of a process, and later how it ended."""
        assert self._template.stdout is not None
        return self._template.stdout.readline()

    def _finish(self, process: int, where: str, killed: bool = False) -> None:
        """Until it and all it started are gone."""
        worked, end = 0.0, time.monotonic() + IDLE_S
        while (left := self._alive(process)) and time.monotonic() < end and worked < WORK_S:
            time.sleep(0.05)
            if (now := sum(map(worked_s, left))) != worked:
                worked, end = now, time.monotonic() + IDLE_S
        for pid in left:
            self.faults.append(f"{where}: process {pid} hangs or is left")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        code = os.waitstatus_to_exitcode(int(self._answer()))
        if code and not killed:
            self.faults.append(f"{where}: exit code {code}: {self._said.read_text()[-300:]}")

    def _alive(self, process: int) -> list[int]:
        """The command, and the processes that it started."""
        return [process] * is_running(process) + [pid for pid in marked(self.mark) if pid != process]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def worked_s(pid: int) -> float:
    """Processor time of a process; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def marked(mark: str) -> list[int]:
    """Living processes whose environment carries the mark."""
    found, text = [], f"{MARK}={mark}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


@contextlib.contextmanager
def rounds(kind: str, seed: int = 0) -> Iterator[Rounds]:
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        place = Path(name) / "work"
        place.mkdir()
        made = Rounds(kind, place, Path(graphs.identity(Path(name) / "identity.onnx")), seed)
        try:
            yield made
        finally:
            made.close()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="in all, shared by the kinds (default 200)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of work (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args(argv)
    faults, kills, say = [], 0, functools.partial(print, flush=True)
    for k, kind in enumerate(args.only):
        with rounds(kind, args.seed) as made:
            for _ in range(args.kills // len(args.only) + (k < args.kills % len(args.only))):
                made.kill()
                kills += 1
                if kills % 10 == 0:
                    say(f"{kills} of {args.kills} kills, {len(faults) + len(made.faults)} faults")
            faults += made.faults
            hit = ", ".join(f"{count} {what}" for what, count in made.killed.most_common())
            say(f"{kind}: {len(made.faults)} faults; killed within {made.length_s:.1f} s: {hit}")
    for fault in faults:
        say(fault)
    say(f"{kills} kills, {len(faults)} faults")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
