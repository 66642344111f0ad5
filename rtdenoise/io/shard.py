"""One of several equal shares of an archive: by a hash of each name, so machines need not talk to each other.

    name below the folder ─▶ SHA-256 ─▶ remainder by the count ─▶ the share it belongs to

The same name belongs to the same share on any machine and in any run, whatever other files there are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from rtdenoise.errors import UsageError

MOST = 1_000_000


@dataclass(frozen=True)
class Shard:
    """Share ``number`` of ``count``, counted from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MOST:
            hint = "; the first one is 1" if self.number == 0 else ""
            raise UsageError(f"shard {self.number}/{self.count}: give one from 1/{self.count} on{hint}")

    def holds(self, name: str) -> bool:
        """Whether a file belongs to this share, by its name below the folder or in the manifest."""
        data = os.fsencode(os.path.normpath(name).replace(os.sep, "/"))
        return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") % self.count == self.number - 1


def read_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """What ``--shard`` says: ``K/N``, or ``auto`` for this task of a Slurm array or of an indexed Kubernetes Job."""
    if text == "auto":
        return _of_slurm(environment) if "SLURM_ARRAY_TASK_ID" in environment else _of_kubernetes(environment)
    number, slash, count = text.partition("/")
    if not (slash and number.isascii() and number.isdecimal() and count.isascii() and count.isdecimal() and int(count)):
        raise UsageError(f"shard {text!r} is no K/N such as 3/16")
    return Shard(int(number), int(count))


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    task, first, last, step, count = (
        _whole(environment, f"SLURM_ARRAY_TASK_{name}", default)
        for name, default in (("ID", None), ("MIN", 0), ("MAX", None), ("STEP", 1), ("COUNT", None))
    )
    if step < 1 or (last - first) // step + 1 != count or (task - first) % step:
        raise UsageError(
            "the tasks of this Slurm array are not evenly numbered; use --array=1-N, or say --shard K/N yourself"
        )
    return Shard((task - first) // step + 1, count)


def _of_kubernetes(environment: Mapping[str, str]) -> Shard:
    if "JOB_COMPLETION_INDEX" not in environment:
        raise UsageError(
            "--shard without a value is for a task of a Slurm array or an indexed Kubernetes Job, and this is none "
            "(no SLURM_ARRAY_TASK_ID, no JOB_COMPLETION_INDEX); give it as K/N"
        )
    if "JOB_COMPLETIONS" not in environment:
        raise UsageError(
            "Kubernetes does not say how many tasks this Job has; set JOB_COMPLETIONS in its container to the number "
            "in completions"
        )
    return Shard(_whole(environment, "JOB_COMPLETION_INDEX") + 1, _whole(environment, "JOB_COMPLETIONS"))


def _whole(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not (text.isascii() and text.isdecimal()):
        raise UsageError(f"{name} is {text!r}, not a whole number; give the shard as K/N")
    return int(text)
