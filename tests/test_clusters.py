"""Slurm and Kubernetes would take the example files, and their tasks do the whole archive, each file once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from command import DEADLINE_S, ENVIRONMENT, ROOT, identity_model, voice, write
from rtdenoise.arguments import Parser
from rtdenoise.cli import options
from rtdenoise.io.shard import read_shard

jsonschema = pytest.importorskip("jsonschema", reason="pip install 'rtdenoise[dev]'")
yaml = pytest.importorskip("yaml", reason="pip install 'rtdenoise[dev]'")

JOB, ARRAY = ROOT / "examples/kubernetes-job.yaml", ROOT / "examples/slurm-array.sh"
SCHEMA = json.loads((ROOT / "tests/schemas/kubernetes-job.json").read_text(encoding="utf-8"))

# Options of `sbatch` and what their values look like, from its manual page.
MEMORY, TIME = r"\d+[KMGT]?", r"(\d+-)?\d+(:\d\d){0,2}"
SBATCH = {
    "job-name": r"\S+",
    "array": r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?",
    "cpus-per-task": r"\d+",
    "mem": MEMORY,
    "mem-per-cpu": MEMORY,
    "time": TIME,
    "requeue": "",
    "output": r"\S+",
    "error": r"\S+",
    "nodes": r"\d+(-\d+)?",
    "ntasks": r"\d+",
    "partition": r"\S+",
}


def sbatch_options(script: str) -> dict[str, str]:
    """What `sbatch` reads: lines before the first command that begin with #SBATCH. ValueError for what it refuses."""
    lines = script.splitlines()
    if not lines or not lines[0].startswith("#!"):
        raise ValueError("a batch script begins with #!")
    found_options = {}
    for line in lines[1:]:
        if line.strip() and not line.startswith("#"):
            break
        if not line.startswith("#SBATCH"):
            continue
        found = re.fullmatch(r"#SBATCH --([\w-]+)(?:=(\S+))?(?:\s+#.*)?", line)
        if found is None or found[1] not in SBATCH or not re.fullmatch(SBATCH[found[1]], found[2] or ""):
            raise ValueError(f"{line!r} is no option of sbatch")
        found_options[found[1]] = found[2] or ""
    return found_options


def array_tasks(text: str) -> list[dict[str, str]]:
    """The environment of each task of ``--array=first-last:step``."""
    first, last, step = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?", text).groups()
    step = int(step or 1)
    ids = range(int(first), int(last) + 1, step)
    shared = {"MIN": ids[0], "MAX": ids[-1], "STEP": step, "COUNT": len(ids)}
    return [{f"SLURM_ARRAY_TASK_{k}": str(v) for k, v in {"ID": task, **shared}.items()} for task in ids]


@pytest.fixture
def job() -> dict:
    return yaml.safe_load(JOB.read_text(encoding="utf-8"))


@pytest.fixture
def archive(tmp_path) -> Path:
    for k in range(12):
        write(tmp_path / "in" / f"{k}.wav", voice(4_000))
    return tmp_path


def test_kubernetes_takes_the_job(job):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(job, SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["spec"].update(completionsMode="Indexed"),
        lambda job: job["spec"].update(completions="16"),
        lambda job: job["spec"]["template"]["spec"]["containers"][0].pop("name"),
        lambda job: job["spec"]["template"]["spec"]["containers"][0]["env"][0].update(value=16),
        lambda job: job["spec"]["template"]["spec"]["containers"][0].update(arguments=[]),
        lambda job: job.pop("spec") and job.update(spec={}),
    ],
)
def test_what_kubernetes_would_refuse_is_seen(job, change):
    change(job)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_the_job_gives_each_share_once_and_says_how_many_there_are(job):
    spec, container = job["spec"], job["spec"]["template"]["spec"]["containers"][0]
    variables = {e["name"]: e["value"] for e in container["env"]}
    assert spec["completionMode"] == "Indexed"
    assert int(variables["JOB_COMPLETIONS"]) == spec["completions"]
    shares = [read_shard("auto", variables | {"JOB_COMPLETION_INDEX": str(k)}) for k in range(spec["completions"])]
    assert [(s.number, s.count) for s in shares] == [(k + 1, len(shares)) for k in range(len(shares))]


def test_the_jobs_command_is_one_of_ours_and_its_pods_can_write_where_it_writes(job):
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["command"] == ["rtdenoise"]
    parser = Parser()
    options.add_arguments(parser)
    args = parser.parse_all(container["args"])
    assert args.shard == "auto"
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert set(mounts) == {v["name"] for v in pod["volumes"]}
    assert args.source.startswith(mounts["archive"])
    assert args.target.startswith(mounts["archive"])


def test_slurm_takes_the_array():
    said = sbatch_options(ARRAY.read_text(encoding="utf-8"))
    assert {"array", "cpus-per-task", "mem", "time", "output"} <= set(said)
    assert "%A" in said["output"]  # one log a task
    assert "%a" in said["output"]
    assert os.access(ARRAY, os.X_OK)
    subprocess.run(["bash", "-n", str(ARRAY)], check=True)


@pytest.mark.parametrize(
    "script",
    [
        "#SBATCH --array=1-4",
        "#!/bin/sh\n#SBATCH --arry=1-4",
        "#!/bin/sh\n#SBATCH --array=a-4",
        "#!/bin/sh\n#SBATCH --time=soon",
        "#!/bin/sh\n#SBATCH array=1-4",
        "#!/bin/sh\n#SBATCH --mem",
    ],
)
def test_what_slurm_would_refuse_is_seen(script):
    with pytest.raises(ValueError, match="#"):
        sbatch_options(script)


def test_options_behind_the_first_command_do_not_count():
    assert sbatch_options("#!/bin/sh\n\n#SBATCH --mem=2G\nset -e\n#SBATCH --array=1-4") == {"mem": "2G"}


def test_the_tasks_of_the_array_filter_the_whole_archive_each_file_once(archive):
    """The script runs as Slurm would run it, a few of its tasks after each other."""
    tasks = array_tasks("1-3")
    shim = archive / "bin/rtdenoise"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rtdenoise "$@" --model "{identity_model()}"\n')
    shim.chmod(0o755)
    environment = ENVIRONMENT | {"PATH": f"{shim.parent}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "1"}
    line = ["bash", str(ARRAY), str(archive / "in"), str(archive / "out")]
    before: set[str] = set()
    for task in tasks:
        done = subprocess.run(line, env=environment | task, capture_output=True, text=True, timeout=2 * DEADLINE_S)
        assert done.returncode == 0, done.stderr
        mine = {p.name for p in (archive / "out").glob("*.wav")} - before
        share = read_shard("auto", task)
        assert mine == {p.name for p in (archive / "in").iterdir() if share.holds(p.name)}
        before |= mine
    assert len(before) == 12


def test_the_script_says_what_it_needs():
    done = subprocess.run(["bash", str(ARRAY)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "the folder to filter" in done.stderr
