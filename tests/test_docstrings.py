"""Every public name, and all that a contributor calls, says in numpydoc form what it takes, gives and holds."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from importlib import import_module

import pytest

import rtdenoise
from rtdenoise.native.compilation import Kernel

# Modules whose names other modules build on, beside the public ones.
BUILT_ON = """
    errors geometry model.contract model.contract_file model.registry model.native_session core.stft core.frames
    core.low_cut core.adjustments core.denoiser core.hop_denoiser io.files io.sound_source live.background
    live.hop_loop live.session live.settings live.stats live.worker native.fft
""".split()

pytest.importorskip("sounddevice", reason="live names need PortAudio", exc_type=OSError)


def sections(doc: str) -> dict[str, str]:
    """Text of each section by its title; the beginning has an empty one."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def names_in(section: str) -> set[str]:
    """What the entries of a section are about: ``a, b : type`` or ``a, b`` at the margin."""
    heads = re.findall(r"^(\w[^:\n]*)(?: :.*)?$", section, re.MULTILINE)
    return {name.strip() for head in heads for name in head.split(",")}


def missing(thing: object, doc: str | None, signature: inspect.Signature | None) -> list[str]:
    """What the docstring of a function, method or class does not say."""
    found = sections(doc or "")
    if re.match(r"As `[\w.]+`\.$", found[""].strip()):  # It does what the named one says.
        return []
    said = [] if re.match(r"[^\n]*\.", found[""]) else ["a summary"]
    if signature is None:
        return said
    wanted = [p for p in signature.parameters if p not in ("self", "args", "kwargs")]
    said += [f"parameter {p}" for p in wanted if p not in names_in(found.get("Parameters", ""))]
    if not inspect.isclass(thing) and signature.return_annotation not in ("None", None, inspect.Signature.empty):
        said += [] if found.get("Returns", "").strip() else ["Returns"]
    return said


def checked(thing: object) -> list[str]:
    if not inspect.isclass(thing):
        return missing(thing, thing.__doc__, inspect.signature(thing))
    if issubclass(thing, Exception):
        return missing(thing, thing.__doc__, None)
    if is_dataclass(thing):
        said = missing(thing, thing.__doc__, None)
        listed = names_in(sections(thing.__doc__ or "").get("Attributes", ""))
        source = inspect.getsource(thing)
        commented = {f.name for f in fields(thing) if re.search(rf"^    {f.name}: [^#\n]*# \S", source, re.MULTILINE)}
        said += [f"field {f.name}" for f in fields(thing) if f.name not in listed | commented]
    else:
        said = missing(thing, thing.__doc__, inspect.signature(thing))
    for member, value in vars(thing).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            said += [f"{member}: {what}" for what in missing(value, value.__doc__, None)]
        elif inspect.isfunction(value):
            said += [f"{member}: {what}" for what in missing(value, value.__doc__, inspect.signature(value))]
    return said


@pytest.mark.parametrize("name", rtdenoise.__all__)
def test_a_public_name_is_documented_in_full(name):
    assert not checked(getattr(rtdenoise, name))


@pytest.mark.parametrize("module", BUILT_ON)
def test_what_a_contributor_calls_is_documented_in_full(module):
    home = import_module(f"rtdenoise.{module}")
    source = lambda thing: thing.__wrapped__ if isinstance(thing, Kernel) else thing
    own = {
        name: source(thing)
        for name, thing in vars(home).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == home.__name__
    }
    things = {name: thing for name, thing in own.items() if inspect.isclass(thing) or inspect.isfunction(thing)}
    assert things
    assert not {name: left for name, thing in things.items() if (left := checked(thing))}


def test_what_is_left_out_is_seen():
    def bare(x: int, y: int) -> int:
        """Add.

        Parameters
        ----------
        x : int
            One.
        """
        return x + y

    assert missing(bare, bare.__doc__, inspect.signature(bare)) == ["parameter y", "Returns"]
    assert missing(bare, None, inspect.signature(bare))[0] == "a summary"
