"""A name of ours that something else has in the sound server: refused in a line where programs go by it."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pytest

from command import COMMAND, DEADLINE_S, ROOT
from programs import pactl
from running import output_of, wait_until

ENDS = {
    "rtdenoise_microphone": ("--in", "A.monitor", "--out", "virtual-mic"),
    "rtdenoise_sink": ("virtual-mic", "create"),
    "rtdenoise_speaker": ("--in", "virtual-speaker", "--out", "B"),
}


@pytest.fixture(params=["pulse_env", "pipewire_env"])
def env(request) -> dict[str, str]:
    return request.getfixturevalue(request.param) | {"PYTHONPATH": str(ROOT)}


def modules(env) -> list[str]:
    return pactl(env, "list", "short", "modules").splitlines()


def done(env, *argv: str) -> subprocess.CompletedProcess:
    line = [*COMMAND, *argv]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.mark.parametrize("name", ENDS)
def test_another_sink_of_the_name_is_refused_in_one_line_and_left_alone(env, name):
    module = pactl(env, "load-module", "module-null-sink", f"sink_name={name}")
    before = modules(env)
    refused = done(env, *ENDS[name])
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"rtdenoise: error: something else is called {name}; remove it, so that a virtual")
    assert refused.stderr.count("\n") == 1
    assert modules(env) == before
    pactl(env, "unload-module", module)


@pytest.mark.parametrize("env", ["pipewire_env"], indirect=True)
def test_a_programs_stream_of_the_name_changes_nothing(env, plain_path):
    """Nodes of PipeWire's graph share one space of names, and no one chooses a microphone among streams and filters."""
    names = ["rtdenoise", "rtdenoise_microphone", "A"]
    nodes = lambda: [n["info"]["props"] for n in json.loads(output_of(env, "pw-dump")) if n["type"].endswith("Node")]
    streams = lambda: sorted(n["node.name"] for n in nodes() if n.get("media.class", "").startswith("Stream"))
    with contextlib.ExitStack() as stack:
        for name in names:
            line = ["pw-cat", "--record", "-P", f"{{ node.name={name} }}", "/dev/null"]
            process = stack.enter_context(subprocess.Popen(line, env=env))
            stack.callback(process.kill)
        wait_until(lambda: streams() == sorted(names))
        session = done(env, *ENDS["rtdenoise_microphone"], "--seconds", "1", "--json", "--model", str(plain_path))
        assert session.returncode == 0, session.stderr
        assert json.loads(session.stdout.splitlines()[-1])["backend"] == "pipewire"
        assert sorted(n["node.name"] for n in nodes() if "rtdenoise" in n["node.name"]) == sorted(names)[1:]
