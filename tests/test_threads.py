"""Any number of threads may filter at once, inside any program: the same sound as one thread's, and nothing touched."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

import rtdenoise
from command import identity_model, voice, write
from rtdenoise.io.pipeline import Settings, filter_sound
from rtdenoise.io.sound_source import SoundFileSource

pytestmark = pytest.mark.slow

RATE = 16_000
LENGTHS = (700, 4_000, 9_001)


def at_once(threads: int, work, items: list) -> list:
    """``work`` of every item in so many threads that all begin together."""
    gate = threading.Barrier(threads)
    with ThreadPoolExecutor(threads, initializer=gate.wait) as pool:
        return list(pool.map(work, items))


@pytest.mark.parametrize("threads", [2, 8])
def test_denoise_gives_every_thread_what_it_gives_one(threads):
    sounds = [voice(LENGTHS[k % 3], 1 + k % 2, seed=k) for k in range(threads)]
    alone = [rtdenoise.denoise(x, RATE) for x in sounds]
    for one, many in zip(alone, at_once(threads, lambda x: rtdenoise.denoise(x, RATE), sounds), strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("threads", [2, 8])
def test_files_filtered_in_threads_equal_those_of_one_thread(tmp_path, threads):
    settings = [Settings(), Settings(strength_db=12), Settings(bypass=True)]
    jobs = []
    for k in range(3 * threads):
        source = write(tmp_path / f"{k}.wav", voice(LENGTHS[k % 3], 1 + k % 2, seed=k), subtype="FLOAT")
        jobs.append((str(source), k % 3))
    for name, wise in (("one", 1), ("many", threads)):
        (tmp_path / name).mkdir()
        work = lambda job, name=name: filter_sound(
            job[0], str(tmp_path / name / os.path.basename(job[0])), settings[job[1]]
        )
        at_once(wise, work, jobs)
    for source, _ in jobs:
        one, many = (tmp_path / name / os.path.basename(source) for name in ("one", "many"))
        np.testing.assert_array_equal(soundfile.read(one)[0], soundfile.read(many)[0])


def test_a_sound_filtered_while_another_reports_its_progress_is_its_own(tmp_path):
    outer, inner = (write(tmp_path / f"{n}.wav", voice(2 * RATE, seed=k), subtype="FLOAT") for k, n in enumerate("ab"))
    alone = tmp_path / "alone.wav"
    filter_sound(str(outer), str(alone), Settings())
    within = lambda done, total: filter_sound(str(inner), str(tmp_path / "inner.wav"), Settings())
    filter_sound(str(outer), str(tmp_path / "outer.wav"), Settings(), progress=within)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "outer.wav")[0], soundfile.read(alone)[0])


def test_after_a_failed_file_the_next_is_as_ever(tmp_path):
    source = write(tmp_path / "a.wav", voice(RATE), subtype="FLOAT")
    filter_sound(str(source), str(tmp_path / "one.wav"), Settings())

    def fail(done: float, total: float | None) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        filter_sound(str(source), str(tmp_path / "failed.wav"), Settings(), progress=fail)
    filter_sound(str(source), str(tmp_path / "two.wav"), Settings())
    np.testing.assert_array_equal(*(soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("one", "two")))
    assert not (tmp_path / "failed.wav").exists()


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_that_share_one_denoiser_take_turns(threads):
    """With a model that changes nothing, every chunk of a stereo pair that differs only in sign comes back as such."""
    d = rtdenoise.Denoiser(identity_model(), RATE, 2)

    def feed(seed: int) -> float:
        worst = 0.0
        for k in range(20):
            x = voice(50 + 37 * k, seed=seed)
            out = d.process(np.hstack([x, -x]))
            assert out.shape == (len(x), 2)
            worst = max(worst, float(np.abs(out[:, 0] + out[:, 1]).max()))
        return worst

    assert max(at_once(threads, feed, list(range(threads)))) < 1e-6
    d.reset()
    x = voice(1_000, 2)
    np.testing.assert_allclose(np.concatenate([d.process(x), d.flush()])[d.latency_samples :], x, atol=1e-5)


@pytest.mark.parametrize("threads", [2, 8])
def test_models_are_listed_and_loaded_in_threads(threads):
    expected = [m.name for m in rtdenoise.list_models()]
    assert at_once(threads, lambda _: [m.name for m in rtdenoise.list_models()], list(range(threads))) == (
        [expected] * threads
    )
    made = at_once(
        threads, lambda rate: rtdenoise.Denoiser(rate=rate).rate, [8_000 + 1_000 * k for k in range(threads)]
    )
    assert made == [8_000 + 1_000 * k for k in range(threads)]


@pytest.mark.parametrize("threads", [2, 8])
def test_names_of_the_package_are_found_by_threads(threads):
    names = [n for n in rtdenoise.__all__ if n not in ("LiveDenoiser", "Device", "list_devices")] * threads
    assert all(at_once(threads, lambda name: getattr(rtdenoise, name) is not None, names))


def test_reading_files_in_threads_leaves_standard_error_alone(tmp_path):
    source = str(write(tmp_path / "a.mp3", voice(RATE)))
    before, python = os.fstat(2), sys.stderr

    def read(_: int) -> int:
        assert os.path.samestat(os.fstat(2), before)
        with SoundFileSource(source) as file:
            return sum(map(len, file.blocks()))

    lengths = at_once(8, read, list(range(40)))
    assert set(lengths) == {soundfile.info(source).frames}
    assert os.path.samestat(os.fstat(2), before)
    assert sys.stderr is python
