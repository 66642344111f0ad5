"""Kill -9 of live sessions in PipeWire's graph, in every state: no node, link or module is left, no program is moved.

    python tests/stress/graph_kills.py --starts 10       # some two minutes, on Linux

A program plays on the default output and another records the default input. Sessions with the virtual microphone, the
virtual speaker and both, with these programs moved or not, are killed at random moments of their start, while they run,
and while they wait for a device. Without another start, the server must be as it was within two seconds. Prints what is
left in each state, and how long it took; the exit code is 1 if anything is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from command import COMMAND, ROOT, identity_model, wait_for
from programs import desk, pactl, playing, program, recording
from rtdenoise_bench.testbed import servers
from running import output_of, record

MOST_S = 2.0
MICROPHONE, SPEAKER = ("--in", "desk", "--out", "virtual-mic"), ("--in", "virtual-speaker", "--out", "A")
CALL = "call", "--mic", "desk", "--speakers", "A"
STATES = {
    "microphone, asleep": MICROPHONE,
    "microphone, a program moved there": (*MICROPHONE, "--app", "Recorder"),
    "microphone, monitored": (*MICROPHONE, "--monitor"),
    "speaker": SPEAKER,
    "speaker, a program moved there": (*SPEAKER, "--app", "Player"),
    "call": CALL,
    "call, programs moved": (*CALL, "--app", "Player"),
    "from device to device": ("--in", "desk", "--out", "A"),
    "by PortAudio, speaker": (*SPEAKER, "--backend", "portaudio"),
    "echo canceller": (*MICROPHONE, "--echo-cancel"),
}
MOVED = "plays on rtdenoise", "records rtdenoise"
NO_NODES = ("by PortAudio, speaker",)  # A module, which the next start takes away: shown, not judged.


def ours(env: dict[str, str]) -> list[str]:
    """What of rtdenoise's the server has, and who is not where it was."""
    nodes = [
        n["info"]["props"].get("node.name", "") for n in json.loads(output_of(env, "pw-dump")) if "Node" in n["type"]
    ]
    found = [f"node {name}" for name in nodes if "rtdenoise" in name]
    found += [f"link {line.strip()}" for line in output_of(env, "pw-link", "-l").splitlines() if "rtdenoise" in line]
    found += [
        f"module {line[:60]}" for line in pactl(env, "list", "short", "modules").splitlines() if "rtdenoise" in line
    ]
    found += [f"{name} plays on {where}" for name, where in playing(env).items() if where != "A"]
    return found + [f"{name} records {where}" for name, where in recording(env).items() if where != "desk"]


def start(env: dict[str, str], argv: tuple[str, ...]) -> subprocess.Popen:
    line = [*COMMAND, *argv, "--json", "--model", identity_model()]
    env = env | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def left(env: dict[str, str], process: subprocess.Popen) -> tuple[list[str], float]:
    """Kill it; what is left after at most `MOST_S`, and when that was so."""
    process.kill()
    process.communicate()
    began = time.monotonic()
    while (found := ours(env)) and time.monotonic() - began < MOST_S:
        time.sleep(0.05)
    return found, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=10, help="kills during a start (default 10)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    faults, chance = 0, random.Random(args.seed)

    def judge(env: dict[str, str], state: str, process: subprocess.Popen) -> None:
        nonlocal faults
        found, seconds = left(env, process)
        judged = state not in NO_NODES
        faults += bool(found) and judged
        print(
            f"{state}: {len(found)} left after {seconds:.1f} s" + (": " + "; ".join(found) if found else ""), flush=True
        )
        if found:
            output_of(env | {"PYTHONPATH": str(ROOT)}, *COMMAND, "apps")
            wait_for(lambda: not ours(env))

    with contextlib.ExitStack() as stack:
        env = stack.enter_context(servers.pipewire())
        stack.enter_context(desk(env))
        pactl(env, "set-default-sink", "A")
        pactl(env, "set-default-source", "desk")
        stack.enter_context(program(env, "Player", "--device=A"))
        stack.enter_context(program(env, "Recorder", "--record", "--device=desk"))
        for state, argv in STATES.items():
            process = start(env, argv)
            record(process, lambda stats: stats["state"] == "running")
            if "--app" in argv:
                wait_for(lambda: any(word in text for text in ours(env) for word in MOVED))
            judge(env, state, process)
        module = pactl(env, "load-module", "module-null-sink", "sink_name=plug")
        process = start(env, ("--in", "virtual-speaker", "--out", "plug", "--app", "Player"))
        record(process, lambda stats: stats["state"] == "running")
        pactl(env, "unload-module", module)
        record(process, lambda stats: stats["state"].startswith("waiting"))
        judge(env, "waiting for a device", process)
        for _ in range(args.starts):
            state, seconds = chance.choice([s for s in STATES if s not in NO_NODES]), chance.uniform(0.3, 3)
            process = start(env, STATES[state])
            time.sleep(seconds)
            judge(env, f"{state}, {seconds:.1f} s after its start", process)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
