"""The command helps quickly, says what happened, and loads only what a request needs."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from command import COMMAND, DEADLINE_S, ENVIRONMENT, call, endless_wav, identity_model, voice, write
from rtdenoise import __version__
from rtdenoise.cli import main, models
from rtdenoise.errors import RtdenoiseError
from rtdenoise.model.contract import ModelInfo

HEAVY = ("numpy", "numba", "onnxruntime", "soundfile", "rich")


def run(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *argv], env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S)


def on_terminal(*argv: object) -> str:
    """What a person at a terminal sees."""
    screen, terminal = pty.openpty()
    line = [*COMMAND, *map(str, argv), "--model", identity_model()]
    options = {"env": ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "100"}, "stdin": subprocess.DEVNULL}
    process = subprocess.Popen(line, stdout=terminal, stderr=terminal, **options)
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that the last writer has left
        while data := os.read(screen, 1 << 16):
            seen += data
    os.close(screen)
    assert process.wait(DEADLINE_S) == 0, seen
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


@pytest.mark.parametrize("argv", [[], ["--help"], ["--version"], ["nonsense"], ["--in", "mic", "--out", "-"]])
def test_what_needs_no_audio_loads_no_audio_library(argv):
    code = f"import sys; from rtdenoise.cli.main import main\ntry: main({argv})\nexcept SystemExit: pass\n"
    code += f"print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_wav_pipe_does_without_libsndfile_and_rich():
    code = "import sys; from rtdenoise.cli.main import main; main(['--in', '-', '--out', '-'])\n"
    code += "print([name for name in ('soundfile', 'rich') if name in sys.modules])"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=ENVIRONMENT, input="", capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_a_name_that_standard_output_cannot_show_is_shown_as_far_as_it_can(encoding):
    code = "from rtdenoise import console; from rtdenoise.io import descriptors; descriptors.settle(); "
    code += "console.print_table(['name'], [['a \\u9ea6 \\udcff z']])"
    environment = ENVIRONMENT | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    seen = done.stdout.decode(encoding)
    assert ("a ? ? z" if encoding != "utf-8" else "a \u9ea6 ? z") in seen


def test_no_arguments_show_the_usual_requests():
    done = run()
    assert done.returncode == 0
    assert done.stdout.count("rtdenoise --in") == 6


def test_help_names_every_command_and_version_the_version():
    shown = run("--help").stdout
    assert all(f"rtdenoise {name}" in shown for name in main.COMMANDS)
    assert run("--version").stdout == f"rtdenoise {__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_or_says_which_extra_it_needs(name, capfd):
    try:
        code = main.main([name, "--help"])
    except SystemExit as leaving:
        code = leaving.code
    said = capfd.readouterr()
    assert (code, "usage" in said.out) == (0, True) or "pip install 'rtdenoise[" in said.err


def test_a_closed_standard_input_is_an_error_in_one_line(tmp_path):
    line = " ".join([*COMMAND, "--in", "-", "--out", "-", "<&-"])
    done = subprocess.run(line, shell=True, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert done.stderr.startswith("rtdenoise: error: --in -: standard input is closed")
    assert done.stderr.count("\n") == 1


def test_a_missing_extra_is_named_in_one_line(monkeypatch, capfd):
    def missing(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(main, "import_module", missing)
    assert main.main(["train"]) == 1
    assert capfd.readouterr().err == (
        "rtdenoise: error: rtdenoise train needs torch; install it with: pip install 'rtdenoise[train]'\n"
    )


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["modles"], "did you mean models?"),
        (["noisy.wav"], "to filter, use --in X --out Y"),
        (["modles", "clean"], "did you mean models?"),
        (["a.wav", "--out", "b.wav"], "to filter, use --in X --out Y"),
        (["--in", "a.wav"], "--out"),
        (["models", "--jsno"], "did you mean --json?"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_with_the_next_step(argv, says, capfd):
    assert main.main(argv) == 2
    said = capfd.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_file_is_summed_up_in_one_line_and_quiet_says_nothing(tmp_path, capfd):
    source = write(tmp_path / "a.wav", voice(32_000))
    code, out, said = call(capfd, "--in", source, "--out", tmp_path / "b.wav")
    assert (code, out, said.count("\n")) == (0, "", 1)
    assert "2.0 s of audio" in said
    assert "16 ms" in said
    assert call(capfd, "--in", source, "--out", tmp_path / "b.wav", "--quiet") == (0, "", "")


def test_two_names_without_options_are_input_and_output(tmp_path, capfd):
    source = write(tmp_path / "a.wav", voice(16_000))
    assert call(capfd, source, tmp_path / "b.wav", "--quiet") == (0, "", "")
    assert (tmp_path / "b.wav").exists()


def test_json_holds_what_scripts_need(tmp_path, capfd):
    source = write(tmp_path / "a.wav", 2 * voice(32_000, level=0.5), subtype="FLOAT")
    code, out, said = call(capfd, "--in", source, "--out", tmp_path / "b.flac", "--json", "--latency", "low")
    fields = json.loads(out)
    assert (code, said, out.count("\n")) == (0, "", 1)
    assert fields["in"] == str(source)
    assert fields["out"] == str(tmp_path / "b.flac")
    assert (fields["seconds"], fields["latency_ms"], fields["nonfinite"], fields["warnings"]) == (2.0, 8.0, 0, [])
    assert fields["speed"] > 0
    assert fields["clipped"] > 0


@pytest.mark.slow
def test_a_terminal_shows_a_bar_with_speed_and_time_left(tmp_path):
    seen = on_terminal("--in", endless_wav(tmp_path / "a.wav", 600), "--out", tmp_path / "b.flac")
    assert "━" in seen
    assert "x real time left 0:" in seen
    assert "10:00 min of audio" in seen


@pytest.mark.slow
def test_a_folder_on_a_terminal_shows_how_many_files_are_done(tmp_path):
    for name in ("a.wav", "b.wav"):
        write(tmp_path / "in" / name, voice(16_000))
    seen = on_terminal("--in", tmp_path / "in", "--out", tmp_path / "out")
    assert "2/2 files" in seen
    assert "2 filtered" in seen


def test_models_are_listed_as_a_table_as_json_and_as_markdown(monkeypatch, capfd, tmp_path):
    model = ModelInfo("unet", tmp_path / "unet.onnx", 129, "3", 1_234_567, "MIT", "speech", {"PESQ": 2.5})
    monkeypatch.setattr(models, "list_models", lambda: [model])
    assert main.main(["models"]) == 0
    shown = capfd.readouterr().out
    for text in ("unet (default)", "8 kHz, 129 bins", "1,234,567", "16 ms", "MIT", "PESQ 2.50"):
        assert text in shown
    assert main.main(["models", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["scores"] == {"PESQ": 2.5}
    assert told["latency_ms"] == 16
    assert main.main(["models", "--markdown"]) == 0
    assert capfd.readouterr().out.splitlines()[2].startswith("| unet (default) | 3 | 8 kHz, 129 bins | 1,234,567 |")


def test_models_stand_beside_their_peers_the_best_last(capfd):
    assert main.main(["models", "--peers", "--markdown"]) == 0
    titles, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in capfd.readouterr().out.splitlines()
    ]
    systems, pesq = [row[0] for row in rows], [float(row[titles.index("PESQ-WB")]) for row in rows]
    assert {"noisy", "**unet**", "rnnoise 0.2"} <= set(systems)
    assert pesq == sorted(pesq)


def test_no_model_at_all_is_an_error(monkeypatch, capfd):
    monkeypatch.setattr(models, "list_models", list)
    assert main.main(["models"]) == RtdenoiseError.exit_code
    assert "no model is installed" in capfd.readouterr().err


def test_a_bare_pair_replaces_no_file_unless_told(tmp_path, capfd):
    """`rtdenoise *.wav` with two recordings in the folder: the second one is not an output."""
    first, second = write(tmp_path / "a.wav", voice(1_000)), write(tmp_path / "b.wav", voice(2_000))
    before = second.read_bytes()
    code, _, said = call(capfd, first, second)
    assert (code, second.read_bytes()) == (2, before)
    assert "b.wav exists; to replace it, add --overwrite" in said
    code, _, said = call(capfd, "mic", second)
    assert (code, second.read_bytes()) == (2, before)
    assert call(capfd, first, second, "--overwrite")[0] == 0
    assert second.read_bytes() != before
    assert call(capfd, first, tmp_path / "new.wav")[0] == 0
    assert call(capfd, "--in", first, "--out", second)[0] == 0
    assert call(capfd, first, os.devnull)[0] == 0


def test_a_folder_and_the_name_of_a_file_are_not_a_pair(tmp_path, capfd):
    write(tmp_path / "in/a.wav", voice(1_000))
    code, _, said = call(capfd, "--in", tmp_path / "in", "--out", tmp_path / "x.wav")
    assert code == 2
    assert "is a folder" in said
    assert "name of a file" in said
    assert os.listdir(tmp_path) == ["in"]


def test_a_mistyped_name_says_what_it_is_taken_for(tmp_path, capfd):
    code, _, said = call(capfd, "--in", "tlak", "--out", tmp_path / "b.wav")
    assert code in (1, 2)
    assert "there is no file 'tlak', and no input" in said
    assert os.listdir(tmp_path) == []


def test_the_command_runs_in_a_thread_of_another_program(tmp_path, capfd):
    source, codes = write(tmp_path / "a.wav", voice(1_000)), []
    work = lambda: codes.append(call(capfd, "--in", source, "--out", tmp_path / "b.wav")[0])
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(DEADLINE_S)
    assert codes == [0]
