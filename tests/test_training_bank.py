"""A bank of decoded audio is made without being held in memory, and checkpoints are data, never code."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile as sf

from command import ENVIRONMENT, ROOT

pytest.importorskip("soxr")

from rtdenoise.errors import RtdenoiseError
from rtdenoise.training.data.clips import DECODED_AHEAD, open_bank

pytestmark = pytest.mark.slow

RATE = 16_000
MAKE = """
import resource, sys
from pathlib import Path
from rtdenoise.training.data.clips import open_bank
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_bank([Path(sys.argv[1])], "noise", 16_000, Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KB")
def test_making_a_bank_takes_the_memory_of_a_few_clips(tmp_path):
    """The bank here has 160 MB, a clip 2 MB of samples and some times that while it is decoded."""
    (tmp_path / "in").mkdir()
    sf.write(tmp_path / "in" / "0.wav", np.zeros(2**20, np.int16), RATE)
    for i in range(1, 80):
        os.link(tmp_path / "in" / "0.wav", tmp_path / "in" / f"{i}.wav")
    line = [sys.executable, "-c", MAKE, str(tmp_path / "in"), str(tmp_path / "cache")]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    bank = open_bank([tmp_path / "in"], "noise", RATE, tmp_path / "cache")
    assert bank.samples.nbytes == 80 * 2**21
    assert int(done.stdout) < (DECODED_AHEAD + 2) * 2**21 * 5 // 1024  # int16, float32 and a copy of it


@pytest.mark.parametrize("channels", [1, 2])
def test_a_bank_holds_every_clip_in_order(tmp_path, channels):
    rng = np.random.default_rng(0)
    sounds = [rng.integers(-9_000, 9_000, (8_000 + 100 * i, channels)).astype(np.int16) for i in range(9)]
    for i, sound in enumerate(sounds):
        sf.write(tmp_path / f"{i}.wav", sound, RATE)
    bank = open_bank([tmp_path], "noise", RATE, tmp_path / "cache", channels=channels)
    held = np.concatenate(sounds) if channels == 2 else np.concatenate(sounds)[:, 0]
    assert bank.samples.shape == held.shape
    assert np.abs(bank.samples - held.astype(int)).max() <= 1  # full scale is 32767 here, 32768 in the file
    table = json.loads(next((tmp_path / "cache").glob("*/table.json")).read_text())
    assert table["start"] == [0, *np.cumsum([len(s) for s in sounds]).tolist()]


def test_several_may_make_the_same_bank_at_once(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        sf.write(tmp_path / f"{i}.wav", rng.integers(-9_000, 9_000, 80_000).astype(np.int16), RATE)
    together = threading.Barrier(4)

    def made(_: int) -> tuple[list[int], int]:
        together.wait()
        bank = open_bank([tmp_path], "noise", RATE, tmp_path / "cache")
        return bank.start.tolist(), zlib.crc32(bank.samples)

    with ThreadPoolExecutor(4) as pool:
        banks = list(pool.map(made, range(4)))
    assert banks == [made_again(tmp_path)] * 4
    assert sorted(p.name for p in (tmp_path / "cache").glob("*/*")) == ["samples.npy", "table.json"]


def made_again(folder):
    bank = open_bank([folder], "noise", RATE, folder / "another")
    return bank.start.tolist(), zlib.crc32(bank.samples)


def test_a_clip_that_cannot_be_read_is_named_and_leaves_no_bank(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(RtdenoiseError, match=r"b\.wav"):
        open_bank([tmp_path], "noise", RATE, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/table.json"))


def test_no_checkpoint_or_array_is_loaded_as_code():
    """`torch.load` everywhere with ``weights_only``, and arrays without pickles."""
    calls = []
    for path in (p for folder in ("rtdenoise", "bench", "examples") for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
                calls.append((ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}))
    loads = [keywords for name, keywords in calls if name == "torch.load"]
    assert loads
    assert all(keywords.get("weights_only") == "True" for keywords in loads)
    assert not [keywords for _, keywords in calls if "allow_pickle" in keywords]


def test_the_torch_that_is_asked_for_keeps_what_weights_only_promises():
    """Until 2.10 a checkpoint could corrupt memory in spite of it, until 2.6 run code."""
    asked = re.search(r'"torch>=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert asked
    assert (int(asked[1]), int(asked[2])) >= (2, 10)
