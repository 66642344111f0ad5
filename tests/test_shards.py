"""``--shard``: shares of an archive that are disjoint, make up the whole, and stay what they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import call, voice, write
from rtdenoise import UsageError, denoise_folder
from rtdenoise.io.shard import Shard, read_shard

names = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1), max_size=50
)


@given(names, st.integers(1, 40))
def test_every_name_belongs_to_one_share_and_no_other(names, count):
    for name in names:
        assert sum(Shard(number, count).holds(name) for number in range(1, count + 1)) == 1


def test_a_name_stays_where_it_is():
    """The last of the first 16 digits that `sha256sum` prints for each, plus 1: with another order an upgrade in the
    middle of an archive would do some files twice and others never."""
    shares = [next(n for n in range(1, 17) if Shard(n, 16).holds(name)) for name in ("a.wav", "deep/b.flac", "ü.wav")]
    assert shares == [5, 4, 15]


def test_shares_are_of_about_the_same_size():
    sizes = [sum(Shard(n, 8).holds(f"folder/{k}.wav") for k in range(8_000)) for n in range(1, 9)]
    assert min(sizes) > 850
    assert max(sizes) < 1_150


def test_the_spelling_of_a_path_does_not_matter():
    assert all(Shard(n, 7).holds("a/b.wav") == Shard(n, 7).holds("./a//b.wav") for n in range(1, 8))


@pytest.mark.parametrize(
    "text", ["", "3", "3/", "/3", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1.5/4", "٣/٤", "1/9999999"]
)
def test_what_is_no_share_is_refused(text):
    with pytest.raises(UsageError, match="shard"):
        read_shard(text, {})


def slurm(task, first, last, step=1):
    values = {"ID": task, "MIN": first, "MAX": last, "STEP": step, "COUNT": (last - first) // step + 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@given(st.integers(0, 50), st.integers(1, 30), st.integers(1, 7))
def test_the_tasks_of_a_slurm_array_are_all_shares(first, count, step):
    last = first + (count - 1) * step
    shards = [read_shard("auto", slurm(task, first, last, step)) for task in range(first, last + 1, step)]
    assert shards == [Shard(n, count) for n in range(1, count + 1)]


@pytest.mark.parametrize("listed", [(1, 5, 9), (0, 2), (0, 1, 5), (3, 10, 11, 12)])
def test_a_slurm_array_with_gaps_is_refused_by_every_task(listed):
    for task in listed:
        environment = slurm(task, listed[0], listed[-1]) | {"SLURM_ARRAY_TASK_COUNT": str(len(listed))}
        with pytest.raises(UsageError, match="evenly"):
            read_shard("auto", environment)


def test_an_indexed_job_counts_from_zero():
    environment = {"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "16"}
    assert read_shard("auto", environment) == Shard(3, 16)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"JOB_COMPLETION_INDEX": "2"},
        {"JOB_COMPLETION_INDEX": "x", "JOB_COMPLETIONS": "4"},
        {"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "4"},
        {"SLURM_ARRAY_TASK_ID": "1"},
    ],
)
def test_a_task_that_does_not_know_its_share_filters_nothing(environment):
    with pytest.raises(UsageError):
        read_shard("auto", environment)


@pytest.fixture
def tree(tmp_path):
    for k in range(12):
        write(tmp_path / f"in/{k % 3}/{k}.wav", voice(800, seed=k))
    return tmp_path


def written(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.wav")}


@pytest.mark.slow
def test_the_shares_of_a_folder_make_up_the_whole(tree, capfd):
    found = []
    for number in (1, 2, 3):
        line = "--in", tree / "in", "--out", tree / f"out{number}", "--shard", f"{number}/3"
        assert call(capfd, *line)[0] == 0
        found.append(written(tree / f"out{number}"))
    assert sum(map(len, found)) == 12
    assert set.union(*found) == written(tree / "in")


@pytest.mark.slow
def test_a_share_without_files_is_no_error(tree, capfd):
    empty = next(n for n in range(1, 1000) if not any(Shard(n, 1000).holds(f"{k % 3}/{k}.wav") for k in range(12)))
    code, _, said = call(capfd, "--in", tree / "in", "--out", tree / "out", "--shard", f"{empty}/1000")
    assert (code, written(tree / "out")) == (0, set())
    assert "nothing to filter here" in said


@pytest.mark.slow
def test_the_option_alone_takes_the_share_from_the_scheduler(tree, capfd, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setenv("JOB_COMPLETIONS", "3")
    assert call(capfd, "--in", tree / "in", "--out", tree / "out", "--shard")[0] == 0
    assert written(tree / "out") == {name for name in written(tree / "in") if Shard(1, 3).holds(name)}


@pytest.mark.slow
def test_without_the_option_a_scheduler_changes_nothing(tree, capfd, monkeypatch):
    """Whoever gives each task a folder of its own must not lose files."""
    for name, value in slurm(1, 1, 16).items():
        monkeypatch.setenv(name, value)
    assert call(capfd, "--in", tree / "in", "--out", tree / "out")[0] == 0
    assert written(tree / "out") == written(tree / "in")


@pytest.mark.slow
def test_python_takes_a_share_too(tree):
    outcomes = denoise_folder(tree / "in", tree / "out", strength_db=0, shard=(2, 3))
    assert {str(tree / "in" / name) for name in written(tree / "out")} == {outcome.source for outcome in outcomes}
    assert 0 < len(outcomes) < 12


def test_one_file_has_no_shares(tmp_path, capfd):
    line = "--in", write(tmp_path / "a.wav", voice(800)), "--out", tmp_path / "b.wav", "--shard", "1/2"
    assert call(capfd, *line)[0] == 2
