"""A TOML file read into dataclasses: unknown keys name the nearest, wrong types say what is wanted.

Recipes and the configuration are such files. What their keys mean is none of its business.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from rtdenoise.errors import UsageError

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")


def read_table(path: Path) -> dict[str, Any]:
    """The file's content. Raises FileNotFoundError if it is not there, UsageError if it is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except (ValueError, RecursionError) as error:  # not UTF-8, no TOML, figures or nesting beyond any measure
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def fill(default: D, table: dict[str, Any], where: str) -> D:
    """A copy of a dataclass with the values of a table; its annotations say which names and types are right."""
    hints = get_type_hints(type(default))
    names = [f.name for f in fields(default)]
    values = {}
    for key, value in table.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, 1, 0.0)[0]
            raise UsageError(f"{where}: unknown key {key!r}; did you mean {near!r}?")
        values[key] = _fit(value, hints[key], getattr(default, key), key, where)
    return replace(default, **values)


def _fit(value: Any, hint: Any, old: Any, key: str, where: str) -> Any:
    union = get_origin(hint) in (Union, UnionType)
    kinds = [get_origin(k) or k for k in (get_args(hint) if union else (hint,)) if k is not NoneType]
    if is_dataclass(old) and not isinstance(old, type) and isinstance(value, dict):
        return fill(old, value, f"{where} [{key}]")
    if kinds == [tuple] and isinstance(value, str | list):
        return tuple([value] if isinstance(value, str) else value)
    if type(value) in kinds:
        return value
    if float in kinds and type(value) is int:
        return float(value)
    wanted = " or ".join("a table" if is_dataclass(k) else k.__name__ for k in kinds)
    raise UsageError(f"{where}: {key} must be {wanted}, not {value!r}")
