"""Numbers without sense and empty names are refused in one line, by every command and every option."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtdenoise_bench.cli as bench
from rtdenoise.arguments import VALUES, number, refuse_empty
from rtdenoise.cli import main
from rtdenoise.errors import UsageError

NONSENSE = ("nan", "inf", "-inf", "1e999", "-1e30", "1e30", "", "x", "--", "0x10", "9" * 5_000)


def numeric() -> list[tuple[str, argparse.Action]]:
    """Every option that takes a number: one of "1", "2.5" and "50" is right for it, and "x" is not."""
    found = []
    for name, parser in (main.parsers() | bench.parsers()).items():
        for action in parser._actions:
            if action.option_strings and action.type and action.nargs in (None, 2):
                reads = [accepts(action, text) for text in ("1", "0.5", "50", "x")]
                if any(reads[:3]) and not reads[3]:
                    found.append((name, action))
    return found


def accepts(action: argparse.Action, text: str) -> bool:
    try:
        action.type(text)
    except (argparse.ArgumentTypeError, ValueError, TypeError):
        return False
    return True


def test_every_number_has_a_range():
    pytest.importorskip("torch", reason="the parsers of training need pip install 'rtdenoise[train]'")
    options = numeric()
    assert len(options) > 30
    for name, action in options:
        option = f"{name} {action.option_strings[0]}"
        assert [text for text in NONSENSE if accepts(action, text)] == [], option


@given(st.floats(), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_number_is_taken_exactly_within_its_range(value, low, span):
    read = number(low, low + span)
    if low <= value <= low + span:
        assert read(repr(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="out of range"):
            read(repr(value))


@pytest.mark.parametrize("name", VALUES)
def test_each_value_says_what_is_right(name):
    if name not in ("model", "profile", "latency"):
        right = "is not one of" if name in ("worker", "backend") else r"give a (whole )?number from"
        with pytest.raises(argparse.ArgumentTypeError, match=right):
            VALUES[name]("nan")


@pytest.mark.parametrize("name", ["rtdenoise", *main.COMMANDS])
@pytest.mark.parametrize("empty", ["", " ", "\t"])
def test_no_command_takes_an_empty_name(capfd, name, empty):
    pytest.importorskip("torch", reason="the parsers of training need pip install 'rtdenoise[train]'")
    parser = main.parsers()["rtdenoise" if name == "rtdenoise" else f"rtdenoise {name}"]
    front = [] if name == "rtdenoise" else [name]
    options = [a.option_strings[-1] for a in parser._actions if a.option_strings and a.nargs != 0]
    for option in options:
        for argv in ([*front, option, empty], [*front, f"{option}={empty}"]):
            if not front:
                argv = [*argv, "--in", "a.wav", "--out", "b.wav"]
            assert main.main(argv) == 2
            said = capfd.readouterr().err
            assert said == f"rtdenoise: error: {option} is empty; give it a value, or remove it\n"


@pytest.mark.parametrize("argv", [["", "b.wav"], ["a.wav", ""], ["", ""], ["models", ""]])
def test_an_empty_argument_without_a_name_is_counted(capfd, argv):
    assert main.main(argv) == 2
    assert capfd.readouterr().err.startswith(f"rtdenoise: error: argument {argv.index('') + 1} is empty")


def test_the_bench_takes_no_empty_name(capfd):
    assert bench.main(["compare", "", "b.json"]) == 2
    assert "argument 2 is empty" in capfd.readouterr().err


def test_what_is_not_empty_passes():
    refuse_empty(["--in", "a b.wav", "--out=-", "-", "--strength", "-1", "x=", "name={in}"])
    with pytest.raises(UsageError, match="--in is empty"):
        refuse_empty(["--in="])
