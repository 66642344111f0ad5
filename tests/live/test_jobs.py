"""A session obeys the shell: lines from the background, the view in the foreground, and never stopped for either."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from hearing import hear
from rtdenoise_bench.measure import correlation, recordings
from running import output_of, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 150  # a first start compiles
VIEW, LINE = "f filter", "rtdenoise: Monitor of Null Output"


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, env: dict[str, str]):
        pid, self._terminal = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup; who logs in does not
            os.chdir(env["HOME"])
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env | {"PS1": "$ ", "TERM": "xterm"})
        self._pid, self.text = pid, ""

    def say(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read(self, seconds: float) -> bool:
        """Take what has come, or comes within that time; whether the shell is there."""
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self.text += os.read(self._terminal, 65_536).decode(errors="replace")
            except OSError:
                return False
        return True

    def wait_for(self, pattern: str, since: int) -> int:
        """Return where the text ends that holds it; fail after the deadline."""
        until = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self.text[since:]):
            assert self._read(0.1), self.text[since:]
            assert time.monotonic() < until, self.text[since:]
        return len(self.text)

    def look(self, seconds: float) -> str:
        """What comes in that time."""
        since, until = len(self.text), time.monotonic() + seconds
        while time.monotonic() < until and self._read(0.05):
            pass
        return self.text[since:]

    def close(self) -> None:
        """End the job and the shell in this order: a shell whose terminal goes at once may leave any job running."""
        self.say("\x03\nkill %1; wait; exit\n")
        until = time.monotonic() + DEADLINE_S
        while self._read(0.1):
            assert time.monotonic() < until, self.text
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


@pytest.fixture
def shell(pulse_env):
    if shutil.which("bash") is None:
        pytest.skip("not installed: bash")
    shell = Shell(pulse_env | {"PYTHONPATH": str(ROOT)})
    yield shell
    shell.close()
    wait_until(lambda: "rtdenoise" not in output_of(pulse_env, "pactl", "list", "short", "modules"))  # its job too


def command(model) -> str:
    return f"{sys.executable} -m rtdenoise --in A.monitor --out virtual-mic --model {model}"


@pytest.mark.parametrize("mode", ["", "stty tostop; "])
def test_a_job_in_the_background_runs_and_says_lines(shell, pulse_env, plain_path, mode):
    with recordings.pulse_playing(pulse_env, "A", correlation.noise(60)):
        shell.say(f"{mode}{command(plain_path)} &\n")
        shell.wait_for(LINE, 0)
        hear(pulse_env, "rtdenoise_microphone")
        mark = len(shell.text)
        shell.say("jobs\n")
        shell.wait_for("Running", mark)
    assert VIEW not in shell.text
    assert "Stopped" not in shell.text


def test_the_view_comes_and_goes_with_the_foreground(shell, pulse_env, plain_path):
    mark = 0
    with recordings.pulse_playing(pulse_env, "A", correlation.noise(120)):
        shell.say(f"{command(plain_path)} &\n")
        mark = shell.wait_for(LINE, mark)
        shell.say("fg\n")
        mark = shell.wait_for(VIEW, mark)
        shell.say("\x1a")  # Ctrl-Z
        mark = shell.wait_for(r"Stopped", mark)
        assert "\x1b[?25h" in shell.text  # the cursor is there again
        shell.say("bg\n")
        mark = shell.wait_for(LINE, mark)
        assert VIEW not in shell.look(1)
        shell.say("stty -a\n")  # the shell's terminal is as the shell wants it
        mark = shell.wait_for(r"[^-]icanon", mark)
        shell.say("fg\n")
        mark = shell.wait_for(VIEW, mark)
        shell.say("\x1b[A\x1b[15~\x1b[3~\x1b[I\xc3")
        shell.say("bbb---")
        mark = shell.wait_for(r"BYPASS", mark)
        shell.say("b")
        mark = shell.wait_for(r"limit 51 dB", mark)
        shell.say("q")
        mark = shell.wait_for(r"\d s, (latency|too short)", mark)
        shell.say("echo over $?\n")
        shell.wait_for(r"over 0", mark)
    assert "rtdenoise" not in output_of(pulse_env, "pactl", "list", "short", "modules")
