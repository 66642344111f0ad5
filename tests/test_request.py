"""The command line wins over the configuration, always, and a setting that does not apply to a request is left aside.

Every kind of request meets any configuration here. Live ones end before a device is opened: what they ask for is known
by then.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command import identity_model, voice, write
from rtdenoise.cli import main
from rtdenoise.cli.config import config_path

TOP = {
    "model": ['"unet"'],
    "strength": [0, 6.5],
    "latency": ['"low"', '"economy"', 30, 500.5],
    "quiet": ["true", "false"],
}
LIVE = {
    "latency": [30, '"low"', '"economy"'],
    "rate": [48_000],
    "channels": [1, 2],
    "blocksize": [256],
    "fixed_latency": [40],
    "worker": ['"native"'],
    "monitor": ["true", "false"],
}
FOLDERS = {"jobs": [1], "overwrite": ["true", "false"]}
COMMON = {"strength", "quiet"}
DEVICES = COMMON | {"latency", "rate", "channels", "blocksize", "fixed_latency", "worker"}


@dataclass
class Case:
    """A request, and which settings mean something to it; ``said`` are those that it states itself."""

    argv: list[str]
    applies: set[str] = field(default_factory=lambda: DEVICES)
    said: dict[str, object] = field(default_factory=dict)


LIVE_REQUESTS = {
    "speakers": Case(["--in", "mic", "--out", "speakers"]),
    "by number": Case(["--in", "4", "--out", "speakers"]),
    "by name": Case(["--in", "USB", "--out", "speakers"]),
    "virtual": Case(["--in", "mic", "--out", "virtual-mic"], DEVICES | {"monitor"}),
    "short": Case(["mic", "virtual-mic"], DEVICES | {"monitor"}),
    "file to device": Case(["--in", "a.wav", "--out", "speakers"], DEVICES - {"rate", "channels"}),
    "recording": Case(["--in", "mic", "--out", "d.wav", "--seconds", "2"], DEVICES, {"seconds": 2.0}),
    "tee": Case(["--in", "mic", "--out", "speakers", "--tee", "d.wav"], DEVICES, {"tee": "d.wav"}),
    "low": Case(["--in", "mic", "--out", "speakers", "--latency", "low"], DEVICES, {"latency": "low"}),
    "economy": Case(["--in", "mic", "--out", "4", "--latency", "economy"], DEVICES, {"latency": "economy"}),
    "figure": Case(
        ["--in", "mic", "--out", "speakers", "--latency", "35"], DEVICES - {"fixed_latency"}, {"latency": 35.0}
    ),
    "fixed latency": Case(
        ["--in", "mic", "--out", "speakers", "--budget", "50"], DEVICES - {"figure"}, {"fixed_latency": 50.0}
    ),
    "taken back": Case(
        "--in mic --out virtual-mic --strength none --latency normal --rate default --channels default --blocksize "
        "default --fixed-latency default --worker default --no-monitor --no-quiet".split(),
        DEVICES | {"monitor"},
        {"strength": None, "latency": "normal", "rate": None, "channels": None, "blocksize": None}
        | {"fixed_latency": None, "worker": None, "monitor": False, "quiet": False},
    ),
}
FILE_REQUESTS = {
    "file": ["--in", "a.wav", "--out", "b.wav"],
    "file and flags": ["--in", "a.wav", "--out", "b.wav", "--learn-noise", "0.01", "--bypass"],
    "pair": ["a.wav", "b.wav"],
    "folder": ["--in", "in", "--out", "out"],
    "folder called mic": ["--in", "./mic", "--out", "out"],
    "raw pipe": ["--in", "raw", "--out", "b.wav", "--raw", "s16le", "--rate", "16000", "--channels", "1"],
}
OTHERS = ["devices", "models --json", "config --path", "rooms --help", "train --help", "doctor --help"]


def as_toml(top: dict, live: dict, folders: dict) -> str:
    tables = ["\n".join(f"{key} = {value}" for key, value in table.items()) for table in (top, live, folders)]
    return "{}\n[live]\n{}\n[folders]\n{}\n".format(*tables)


def some(table: dict) -> st.SearchStrategy:
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in table.items()})


CONFIGURATIONS = st.tuples(some(TOP), some(LIVE), some(FOLDERS))
matrix = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("request")
    for name in ("a.wav", "in/a.wav", "mic/a.wav"):
        write(folder / name, voice(400))
    for name in ("USB", "4", "speakers", "virtual-mic"):  # folders that happen to be called as devices are
        (folder / name).mkdir()
    return folder


@pytest.fixture
def ask(place, monkeypatch, capfd):
    """Does a request under a configuration; returns its exit code, its output, and what it asked of a live session."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "home"))
    monkeypatch.chdir(place)
    live: list[argparse.Namespace] = []
    monkeypatch.setattr("rtdenoise.cli.live.run", lambda args: live.append(args) or 0)
    monkeypatch.setattr("rtdenoise.cli.devices.list_devices", list)

    def ask(argv: list[str], config: str = "") -> tuple[int, str, argparse.Namespace | None]:
        (place / "b.wav").unlink(missing_ok=True)
        (place / "out" / "a.wav").unlink(missing_ok=True)
        path = config_path()
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(config)
        live.clear()
        capfd.readouterr()
        try:
            code = main.main(argv)
        except SystemExit as end:
            code = int(end.code or 0)
        return code, "".join(capfd.readouterr()), live[0] if live else None

    return ask


def value_of(text: object) -> object:
    words = {"true": True, "false": False}
    return words.get(text, text.strip('"')) if isinstance(text, str) else text


@pytest.mark.parametrize("name", LIVE_REQUESTS)
@given(configuration=CONFIGURATIONS)
@matrix
def test_a_live_request_gets_what_it_says_then_what_is_configured_and_applies(ask, name, configuration):
    case, (top, live, _) = LIVE_REQUESTS[name], configuration
    code, said, args = ask([*case.argv, "--model", "tape"], as_toml(*configuration))
    assert (code, said) == (0, "")
    assert args is not None
    assert args.model == "tape"
    configured = {key: value_of(value) for key, value in (top | live).items()}
    if isinstance(configured.get("latency"), int | float) and (
        "fixed_latency" in case.said or ("fixed_latency" in live and "latency" not in live)
    ):
        configured.pop("latency")  # two figures for one delay
    for key in ("strength", "latency", "quiet", "rate", "channels", "blocksize", "fixed_latency", "worker", "monitor"):
        built_in = "normal" if key == "latency" else None
        wanted = configured.get(key, built_in) if key in case.applies else built_in
        assert getattr(args, key) == case.said.get(key, wanted), key


@pytest.mark.parametrize("name", FILE_REQUESTS)
@given(configuration=CONFIGURATIONS)
@settings(matrix, max_examples=10)
def test_files_folders_and_pipes_run_under_any_configuration(ask, name, configuration):
    argv = list(FILE_REQUESTS[name])
    if name == "raw pipe":
        end, other = os.pipe()
        os.write(other, bytes(800))
        os.close(other)
        argv[1] = f"/dev/fd/{end}"
    code, said, live = ask([*argv, "--json", "--model", identity_model()], as_toml(*configuration))
    if name == "raw pipe":
        os.close(end)
    assert code == 0, said
    assert live is None
    assert json.loads(said)["latency_ms"] == (8 if configuration[0].get("latency") == '"low"' else 16)


@pytest.mark.parametrize("line", OTHERS)
@pytest.mark.parametrize("config", ["latency = 30\n[live]\nmonitor = true\n", 'strength = "wrong', "\0"])
def test_what_filters_nothing_does_not_depend_on_the_configuration(ask, line, config):
    if main.COMMANDS[line.split()[0]].extra == "train":
        pytest.importorskip("torch", reason="pip install 'rtdenoise[train]'")
    code, said, _ = ask(line.split(), config)
    assert code == 0, said


def test_a_wrong_file_is_shown_with_what_is_wrong(ask):
    code, said, _ = ask(["config", "--show"], "strength = nan\n")
    assert code == 2
    assert said.startswith("strength = nan\n")
    assert "out of range" in said


def test_a_limit_of_the_file_can_be_lifted(ask, place):
    ends = ["--in", "a.wav", "--out", "b.wav", "--model", "tape"]

    def output(*options: str, config: str = "") -> bytes:
        assert ask([*ends, *options], config)[0] == 0
        return (place / "b.wav").read_bytes()

    free, held = output(), output("--strength", "0")
    assert free != held
    assert output(config="strength = 0\n") == held
    assert output("--strength", "none", config="strength = 0\n") == free
    assert output("--strength", "default", config="strength = 0\n") == free


@pytest.mark.parametrize(
    ("argv", "config", "blames"),
    [
        (["--in", "a.wav", "--out", "b.wav"], 'model = "unett"', "model"),
        (["--in", "a.wav", "--out", "b.wav", "--model", "unett"], "strength = 3", None),
        (["--in", "a.wav", "--out", "b.wav", "--model", "unett"], 'model = "unet"', None),
    ],
)
def test_an_error_names_the_file_if_a_setting_of_it_is_to_blame(ask, argv, config, blames):
    code, said, _ = ask(argv, config)
    assert code == 2
    assert said.count("\n") == 1
    assert (f"({blames}: see {config_path()})" in said) if blames else ("config.toml" not in said)


def test_what_somebody_typed_and_does_not_fit_is_still_an_error(ask):
    for options in (["--monitor"], ["--latency", "30"], ["--budget", "3"], ["--jobs", "2"]):
        assert ask(["--in", "a.wav", "--out", "b.wav", *options])[0] == 2
    assert ask(["--in", "mic", "--out", "speakers", "--monitor"])[0] == 2
    assert ask(["--in", "a.wav", "--out", "speakers", "--rate", "48000"])[0] == 2
