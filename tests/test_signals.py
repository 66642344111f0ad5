"""A signal ends the command whenever it comes, with 128 + its number and without a traceback; none is lost."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from command import COMMAND, DEADLINE_S, ENVIRONMENT, call, endless_wav, identity_model
from rtdenoise import signals

pytestmark = pytest.mark.slow

STEP_S = 0.02


def python_is_there(process: subprocess.Popen) -> bool:
    """Whether our handler of SIGINT is in place, as the kernel tells."""
    with open(f"/proc/{process.pid}/status") as status:
        caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
    return bool(caught & 1 << signal.SIGTERM - 1)


def answers(argv: list[str], number: int, moments: int) -> list[tuple[int, str]]:
    """Exit codes and what was said, for a signal after every `STEP_S` of a start."""
    found = []
    for k in range(moments):
        process = subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not python_is_there(process) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(k * STEP_S)
        process.send_signal(number)
        err = process.communicate(timeout=DEADLINE_S)[1]
        found.append((process.returncode, err))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(("number", "moments"), [(signal.SIGINT, 24), (signal.SIGTERM, 8)])
def test_a_file_run_is_ended_at_every_moment_of_its_start(tmp_path, number, moments):
    source = endless_wav(tmp_path / "long.wav")
    argv = [*COMMAND, str(source), str(tmp_path / "out.wav"), "--model", identity_model()]
    for code, err in answers(argv, number, moments):
        assert code == 128 + number, err
        assert "Traceback" not in err
        assert "Error" not in err
    assert os.listdir(tmp_path) == ["long.wav"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_short_command_is_ended_or_done(tmp_path):
    """At its very end Python gives up all handlers, and the kernel ends it: 130 too, as a shell tells it."""
    for code, err in answers([*COMMAND, "models"], signal.SIGINT, 16):
        assert code in (0, 128 + signal.SIGINT, -signal.SIGINT), err
        assert "Traceback" not in err
        assert "Error" not in err


def test_an_exception_that_a_library_drops_is_raised_again():
    arrive = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))

    def work() -> None:
        arrive()
        time.sleep(DEADLINE_S)

    with signals.raising() as came:
        with pytest.raises(KeyboardInterrupt):
            work()
        first, again, *put_off = came  # until the thread that sends it again has ended, it is put off once more
        assert {first, again, *put_off} == {signal.SIGINT}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_comes_while_another_is_put_off_is_raised_too(monkeypatch):
    """Seen on a busy machine: the second one came before the thread that was to send it had started, inside the hook
    of what libraries drop; an exception raised there would never be heard of again."""
    arrive, starts = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT)), []

    class Early(threading.Timer):
        def start(self) -> None:
            starts.append(self)
            if len(starts) == 1:
                signal.raise_signal(signal.SIGTERM)
            super().start()

    def work() -> None:
        arrive()
        time.sleep(DEADLINE_S)

    monkeypatch.setattr(threading, "Timer", Early)
    with signals.raising() as came, pytest.raises(SystemExit) as end:
        work()
    assert end.value.code == 128 + signal.SIGTERM
    first, second, *put_off = came  # until the thread that sends it has ended, it is put off again
    assert (first, second) == (signal.SIGINT, signal.SIGTERM)
    assert set(put_off) == {signal.SIGTERM}


class HalfMade:
    """Interrupted before it has what its finalizer closes, as an object of llvmlite was seen to be."""

    def __init__(self, number: int | None) -> None:
        if number is not None:
            signal.raise_signal(number)
        self.pointer = None

    def __del__(self) -> None:
        if self.pointer is None:
            raise ValueError("nothing to close")


def test_what_an_interrupt_left_half_made_does_not_complain(monkeypatch):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: complaints.append(what.exc_type))
    with signals.raising() as came:
        HalfMade(None)
        assert complaints == [ValueError]  # without an interrupt a finalizer's error is told
        with pytest.raises(KeyboardInterrupt):
            HalfMade(signal.SIGINT)
        gc.collect()
        assert came == [signal.SIGINT]
    assert complaints == [ValueError]


class Unlucky:
    """A key that is interrupted while it is compared, in a lookup that clears any exception."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Unlucky):
            signal.raise_signal(signal.SIGTERM)
        return False


def interrupted_unheard() -> None:
    get = ctypes.pythonapi.PyDict_GetItem
    get.argtypes, get.restype = [ctypes.py_object, ctypes.py_object], ctypes.c_void_p
    assert get({Unlucky(): 1}, Unlucky()) is None


def test_an_exception_that_is_dropped_without_a_word_is_raised_by_the_next_step():
    with signals.raising() as came:
        signals.raise_dropped()
        interrupted_unheard()
        assert came == [signal.SIGTERM]
        with pytest.raises(SystemExit) as end:
            signals.raise_dropped()
        assert end.value.code == 128 + signal.SIGTERM
    signals.raise_dropped()  # over: a host of the package is not interrupted by what its own command once got


def test_a_file_run_ends_though_a_library_drops_its_interrupt(tmp_path, monkeypatch, capfd):
    from rtdenoise.core.denoiser import Denoiser

    process = Denoiser.process
    monkeypatch.setattr(Denoiser, "process", lambda *args: interrupted_unheard() or process(*args))
    source = endless_wav(tmp_path / "long.wav", 60)
    with pytest.raises(SystemExit) as end:
        call(capfd, source, tmp_path / "out.wav")
    assert end.value.code == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == ["long.wav"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_is_only_noted_is_not_lost_either():
    arrive = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))
    with signals.noted() as came:
        arrive()  # Python prints the exception, and drops it
        assert came == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(came[0])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_notes_in_the_midst_answers_alone():
    with signals.raising() as outer, signals.noted() as inner:
        with pytest.raises(SystemExit) as end:
            signal.raise_signal(signal.SIGTERM)
        assert end.value.code == 128 + signal.SIGTERM
        assert (inner, outer) == ([signal.SIGTERM], [])


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.raising() as came, signals.noted(), signals.at_once():
            signal.raise_signal(signal.SIGHUP)
        assert came == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_error_that_a_library_makes_of_an_interrupt_is_an_interrupt(monkeypatch, capfd):
    from rtdenoise.cli import main

    def convert(*_):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as e:
            raise ImportError("initialization failed") from e

    monkeypatch.setattr(main, "_run", convert)
    assert main.main(["models"]) == 128 + signal.SIGINT
    assert capfd.readouterr().err == "rtdenoise: interrupted; no half-written file is left\n"
