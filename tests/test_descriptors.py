"""However the command is started, with closed or non-blocking descriptors, sound is sound and messages are messages."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from command import COMMAND, DEADLINE_S, ENVIRONMENT, call, identity_model, voice, write
from rtdenoise.io.descriptors import only_python_speaks

pytestmark = pytest.mark.slow


def shell(line: str, *argv: object) -> subprocess.CompletedProcess:
    """The command with its redirections, by a shell."""
    whole = ["sh", "-c", f'"$@" --model {identity_model()} {line}', "sh", *COMMAND, *map(str, argv)]
    return subprocess.run(whole, env=ENVIRONMENT, capture_output=True, timeout=DEADLINE_S)


@pytest.fixture
def loud(tmp_path):
    """A sound of which something must be said: it ends too early."""
    source = write(tmp_path / "a.wav", voice(16_000))
    source.write_bytes(source.read_bytes()[:-2_000])
    return source


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-"])
def test_sound_on_standard_output_is_not_mixed_with_words(tmp_path, loud, closed):
    out = tmp_path / "out.wav"
    clean = shell(f"> {tmp_path}/good.wav", "--in", loud, "--out", "-")
    assert b"truncated" in clean.stderr
    assert shell(f"{closed} > {out}", "--in", loud, "--out", "-").returncode == 0
    assert out.read_bytes() == (tmp_path / "good.wav").read_bytes()


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_files_are_filtered_whatever_is_closed(tmp_path, closed):
    source, target = write(tmp_path / "a.wav", voice(16_000)), tmp_path / "b.wav"
    done = shell(closed, "--in", source, "--out", target)
    assert done.returncode == 0
    np.testing.assert_allclose(soundfile.read(target)[0], soundfile.read(source)[0], atol=1e-4)


@pytest.mark.parametrize(
    ("ends", "closed", "says"),
    [(("-", "b.wav"), "0<&-", b"input is closed"), (("a.wav", "-"), "1>&-", b"output is closed")],
)
def test_a_pipe_that_is_closed_is_an_error(tmp_path, ends, closed, says):
    write(tmp_path / "a.wav", voice(1_000))
    source, target = (end if end == "-" else tmp_path / end for end in ends)
    done = shell(closed, "--in", source, "--out", target)
    assert done.returncode == 1
    assert says in done.stderr
    assert os.listdir(tmp_path) == ["a.wav"]


def slowly(data: bytes, *argv: object) -> tuple[int, bytes, bytes]:
    """Through the command with descriptors that do not block, sent and taken with pauses that fill and empty them."""
    (stdin, feed), (take, stdout), (hear, stderr) = os.pipe(), os.pipe(), os.pipe()
    for fd in (stdin, stdout, stderr):
        os.set_blocking(fd, False)
    process = subprocess.Popen([*COMMAND, *map(str, argv)], env=ENVIRONMENT, stdin=stdin, stdout=stdout, stderr=stderr)
    for fd in (stdin, stdout, stderr):
        os.close(fd)

    def send() -> None:
        with open(feed, "wb", 0) as file:
            for at in range(0, len(data), 50_000):
                file.write(data[at : at + 50_000])
                time.sleep(0.01)

    sender = threading.Thread(target=send)
    sender.start()
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(open(hear, "rb").read()))  # noqa: SIM115
    listener.start()
    out = b""
    with open(take, "rb", 0) as file:
        while more := file.read(20_000):
            out += more
            time.sleep(0.002)
    for thread in (sender, listener):
        thread.join(DEADLINE_S)
    return process.wait(DEADLINE_S), out, heard[0]


def test_descriptors_that_do_not_block_are_waited_for(tmp_path):
    source = write(tmp_path / "a.wav", voice(200_000))
    code, out, said = slowly(source.read_bytes(), "--in", "-", "--out", "-", "--bypass", "--model", identity_model())
    assert (code, said) == (0, b"")
    got = np.frombuffer(out[44:], "<i2")
    np.testing.assert_array_equal(got, soundfile.read(source, dtype="int16")[0])


def test_text_waits_for_room_too():
    """``config --show`` and the like print more than a pipe holds at once."""
    code = (
        "import os, sys, time; from rtdenoise.io.descriptors import settle; os.set_blocking(1, False); settle()\n"
        "print('x' * 300_000); print('y' * 300_000, file=sys.stderr)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(0.2)  # until the pipe is full; too short a time would only make the test easier
    out, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, len(out), len(said)) == (0, 300_001, 300_001)


def test_while_only_python_speaks_threads_and_blocks_within_share_it(capfd):
    before, python = os.fstat(2), sys.stderr

    def speak(k: int) -> None:
        for _ in range(50):
            with only_python_speaks(), only_python_speaks():
                os.write(2, b"noise\n")
        print(f"word {k}", file=python)

    threads = [threading.Thread(target=speak, args=(k,)) for k in range(8)]
    with only_python_speaks():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert os.path.samestat(os.fstat(2), before)
    assert sys.stderr is python
    assert "noise" not in capfd.readouterr().err


def test_a_note_of_the_mp3_decoder_is_not_shown(tmp_path, capfd):
    (tmp_path / "a.mp3").write_text("These are words, not waves. " * 100)
    code, _, said = call(capfd, "--in", tmp_path / "a.mp3", "--out", tmp_path / "b.wav")
    assert code == 1
    assert said.count("\n") == 1
    assert said.startswith("rtdenoise: error: ")


def test_a_program_that_has_read_its_standard_input_may_run_the_command():
    code = "import sys; sys.stdin.readline(); from rtdenoise.cli.main import main; sys.exit(main(['--version']))"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, input=b"a line\n", timeout=DEADLINE_S)
    assert done.returncode == 0
