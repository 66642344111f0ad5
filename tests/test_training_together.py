"""Several processes learn what one learns from all their batches, started by torchrun or by ``--processes``."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from command import DEADLINE_S, ENVIRONMENT, write  # noqa: E402
from rtdenoise.cli.main import main  # noqa: E402
from rtdenoise.errors import RtdenoiseError  # noqa: E402
from rtdenoise.training.distributed import Ranks  # noqa: E402
from rtdenoise.training.trainer import load_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

RATE, EQUAL = 16_000, 1e-5
# Half of the pairs are noise alone, so processes differ in how many voices their batches hold.
RECIPE = """
network = "{}"
[options]
{}
[data]
seconds = 0.5
batch = 4
[mix]
noise_only = 0.5
[loss]
envelope = 0.5
[schedule]
steps = 20
warmup = 20
learning_rate = 2e-3
all_frames_from = 0.75
precision = "float32"
save_every = 5
validate_every = 20
"""
OPTIONS = {"unet": "channels = [4, 4, 8]\npitch = 4\nhead = 4", "crced": "channels = 4\nlayers = 3\nlocal = 4"}
# The command; the second process is killed once, in the middle.
KILLED = """
import os, sys
from rtdenoise.cli.main import main
from rtdenoise.training.trainer import Trainer
from rtdenoise.training.validate import Validation

Validation.__init__, Validation.scores, step = (lambda *_: None), (lambda *_: {"mark": 0.0}), Trainer.train_step

def killed(self, *batch):
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and self.step == 8:
        os._exit(9)
    return step(self, *batch)

Trainer.train_step = killed
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def line(tmp_path, monkeypatch):
    """``line(network, out, ...)``: arguments of a tiny training."""
    monkeypatch.setattr("rtdenoise.training.validate.Validation.__init__", lambda *_: None)  # It costs the most.
    monkeypatch.setattr("rtdenoise.training.validate.Validation.scores", lambda *_: {"mark": 0.0})
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # of threads: they would wait for each other on a busy machine
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    random, time_s = np.random.default_rng(0), np.arange(2 * RATE) / RATE
    for k in range(3):
        voice = np.sin(2 * np.pi * (120 + 40 * k) * time_s) * (np.sin(2 * np.pi * 4 * time_s) > 0)
        write(tmp_path / f"clean/{k}.wav", 0.3 * voice, RATE)
        write(tmp_path / f"noise/{k}.wav", 0.1 * random.standard_normal(len(time_s)), RATE)

    def line(network: str, out: str, *more: str) -> list[str]:
        (tmp_path / f"{network}.toml").write_text(RECIPE.format(network, OPTIONS[network]))
        ends = "--clean", f"{tmp_path}/clean", "--noise", f"{tmp_path}/noise", "--out", f"{tmp_path}/{out}"
        return ["train", str(tmp_path / f"{network}.toml"), *ends, *more]

    yield line
    torch.set_num_threads(threads)


def differ(one, other) -> float:
    """By how much the weights of two trainings do, the averaged ones too."""
    first, second = load_checkpoint(one / "last.pt"), load_checkpoint(other / "last.pt")
    assert first["step"] == second["step"]
    return max(
        float((value.double() - second[part][name].double()).abs().max())
        for part in ("network", "ema")
        for name, value in first[part].items()
    )


def losses(folder) -> dict[int, float]:
    log = [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]
    return {entry["step"]: entry["loss"] for entry in log if "loss" in entry}


def test_two_processes_of_torchrun_learn_what_one_does_though_one_is_killed_meanwhile(line, tmp_path):
    """20 steps of the same global batch. What was learnt since the last checkpoint is learnt again."""
    assert main(line("unet", "one", "--batch", "4")) == 0
    (tmp_path / "killed.py").write_text(KILLED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    done = subprocess.run(
        [*torchrun, str(tmp_path / "killed.py"), *line("unet", "two", "--batch", "4")],
        env=ENVIRONMENT | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    assert differ(tmp_path / "one", tmp_path / "two") < EQUAL
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() == {5, 10, 15, 20}
    assert one == pytest.approx(two, abs=EQUAL)


def test_processes_of_one_machine_do_too(line, tmp_path):
    """The log of the first counts the mixtures of both; it decodes the audio, and the second waits for that."""
    assert main(line("crced", "one", "--batch", "4", "--steps", "6")) == 0
    assert main(line("crced", "two", "--batch", "4", "--steps", "6", "--processes", "2")) == 0
    assert differ(tmp_path / "one", tmp_path / "two") < EQUAL
    last = json.loads((tmp_path / "two/log.jsonl").read_text().splitlines()[-2])
    assert last["hours_mixed"] == pytest.approx(6 * 4 * 0.5 / 3600, abs=0.006)


@pytest.mark.parametrize(
    ("environment", "more", "said"),
    [
        ({}, ["--processes", "2", "--batch", "3"], "multiple of 2"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ["--processes", "2"], "remove --processes"),
        ({"RANK": "first", "WORLD_SIZE": "2"}, [], "RANK is 'first'"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, [], "cannot meet"),
    ],
)
def test_a_launch_without_sense_is_refused(line, tmp_path, monkeypatch, capfd, environment, more, said):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(line("unet", "out", *more)) != 0
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


def test_a_process_is_told_in_one_line_that_another_is_gone(monkeypatch):
    def gone(_):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:29500")

    monkeypatch.setattr("torch.distributed.all_reduce", gone)
    with pytest.raises(RtdenoiseError, match="another process of this training has ended"):
        Ranks(0, 2).mean(torch.ones(1))
