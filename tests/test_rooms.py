"""Made rooms: repeatable, as long as asked, and of use to the mixer."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile as sf

pra = pytest.importorskip("pyroomacoustics")

from rtdenoise.cli.main import main  # noqa: E402
from rtdenoise.training.data.material import find_clips  # noqa: E402
from rtdenoise.training.data.room_simulation import room  # noqa: E402

pytestmark = pytest.mark.slow


def test_the_same_seed_writes_the_same_rooms_and_training_finds_them(tmp_path):
    for name in ("a", "b"):
        assert main(["rooms", "--out", str(tmp_path / name), "--count", "3", "--seed", "4", "--rate", "16000"]) == 0
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 3
    for name in files:
        response, rate = sf.read(tmp_path / "a" / name)
        assert rate == 16000
        assert 0.85 < np.abs(response).max() < 0.95
        assert (response == sf.read(tmp_path / "b" / name)[0]).all()
    assert [c.path.name for c in find_clips(tmp_path / "a", "rir")] == files


def test_rooms_ring_about_as_long_as_they_should():
    """Sabine's formula is for sound that comes from everywhere; between parallel walls it rings longer."""
    asked, measured = [], []
    for k in range(12):
        wanted_s, response = room(np.random.default_rng(k), 16000, (0.2, 0.6))
        asked.append(wanted_s)
        measured.append(pra.experimental.measure_rt60(response, 16000, decay_db=20))
    assert np.corrcoef(asked, measured)[0, 1] > 0.6
    assert 0.8 < np.mean(measured) / np.mean(asked) < 2


@pytest.mark.parametrize(
    "wrong", [["--count", "0"], ["--rt60", "0.5", "0.2"], ["--rt60", "0", "0.2"], ["--rt60", "0.01", "0.02"]]
)
def test_rooms_that_cannot_be_made_say_why(tmp_path, capsys, wrong):
    assert main(["rooms", "--out", str(tmp_path / "rooms"), *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err
    assert not (tmp_path / "rooms").exists()


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path, capsys):
    (tmp_path / "a").write_bytes(b"")
    assert main(["rooms", "--out", str(tmp_path / "a" / "rooms"), "--count", "1"]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / 'a' / 'rooms'}: Not a directory; check the path" in error
    assert error.count("\n") == 1
