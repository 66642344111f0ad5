"""Reference pages from the program itself: parsers, public names, the configuration's template, records as printed.

Nothing here states a fact of its own, so the pages cannot fall behind the code. Extras that are not installed are
mocked: the parsers of `rtdenoise train` and its sisters are there without torch.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from os.path import normpath
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective

import rtdenoise

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("torch", "onnx", "scipy", "soxr", "pyroomacoustics", "matplotlib", "pesq", "pystoi")
ACTIONS_WITHOUT_VALUE = (argparse._HelpAction, argparse._VersionAction)  # no public names exist


def parsers_of(program: str) -> dict[str, argparse.ArgumentParser]:
    """Parsers of ``rtdenoise`` or ``rtdenoise-bench``, by how a command line begins."""
    from rtdenoise.cli.main import parsers as product
    from rtdenoise_bench.cli import parsers as bench

    import_module("numba")  # It looks for scipy at its import and must not find a mock.
    with mock([name for name in EXTRAS if find_spec(name) is None]):
        return {"rtdenoise": product, "rtdenoise-bench": bench}[program]()


class CommandLine(SphinxDirective):
    """``{command-line} rtdenoise``: a section for every command, with usage, arguments and options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return [self._section(name, parser) for name, parser in parsers_of(self.arguments[0]).items()]

    def _section(self, name: str, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(name)], names=[nodes.fully_normalize_name(name)])
        section += nodes.title("", "", nodes.literal("", name))
        self.state.document.note_explicit_target(section)
        if parser.description:
            section += nodes.paragraph("", sentence(parser.description))
        parser.formatter_class = Wide
        usage = parser.format_usage().replace("\n" + " " * len("usage: "), "\n").removeprefix("usage: ")
        section += nodes.literal_block("", usage.rstrip(), language="text", classes=["wrapped"])
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
            if actions:
                section += nodes.rubric("", sentence(group.title or "").rstrip("."))
                section += nodes.definition_list("", *(definition(a, parser) for a in actions))
        if parser.epilog:
            section += nodes.literal_block("", parser.epilog.rstrip(), language="text", classes=["wrapped"])
        return section


class Wide(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, width=90)


def definition(action: argparse.Action, parser: argparse.ArgumentParser) -> nodes.definition_list_item:
    """One argument or option with its help, defaults filled in."""
    value = value_of(action)
    spellings = [f"{option} {value}".rstrip() for option in action.option_strings] or [value]
    term = nodes.term()
    for i, spelling in enumerate(spellings):
        term += [nodes.Text(", ")] if i else []
        term += nodes.literal("", spelling)
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph("", sentence(text))))


def value_of(action: argparse.Action) -> str:
    """What follows an option: its metavar, its choices, or its name in capitals; nothing for a flag."""
    if action.nargs == 0 or isinstance(action, (*ACTIONS_WITHOUT_VALUE, argparse.BooleanOptionalAction)):
        return ""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    name = action.dest.upper() if action.option_strings else action.dest
    one = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else name)
    if isinstance(action.nargs, int):
        return " ".join([one] * action.nargs)
    return {"+": f"{one} ...", "*": f"[{one} ...]", "?": f"[{one}]"}.get(str(action.nargs), one)


def sentence(text: str) -> str:
    """
    >>> sentence("list the models")
    'List the models.'
    """
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "?", "!", ":")) else f"{text}."


class PublicApi(SphinxDirective):
    """``.. public-api::``: functions, classes and errors of the top-level package, from their docstrings."""

    def run(self) -> list[nodes.Node]:
        objects = {name: getattr(rtdenoise, name) for name in rtdenoise.__all__}
        kinds: dict[str, Callable[[object], bool]] = {
            "Functions": inspect.isroutine,
            "Classes": lambda o: inspect.isclass(o) and not issubclass(o, Exception),
            "Errors": lambda o: inspect.isclass(o) and issubclass(o, Exception),
        }
        lines = []
        for title, belongs in kinds.items():
            lines += [title, "-" * len(title), ""]
            for name in sorted((n for n, o in objects.items() if belongs(o)), key=str.lower):
                kind = {"Functions": "function", "Classes": "class", "Errors": "exception"}[title]
                options = {
                    "function": [],
                    "class": ["   :members:", "   :inherited-members:"],
                    "exception": ["   :show-inheritance:"],
                }[kind]
                lines += [f".. auto{kind}:: rtdenoise.{name}", *options, ""]
        container = nodes.section()
        container.document = self.state.document
        self.state.nested_parse(StringList(lines, "public-api"), 0, container, match_titles=True)
        return container.children


class ConfigurationTemplate(SphinxDirective):
    """``{configuration-template}``: the file that `rtdenoise config --edit` begins with."""

    def run(self) -> list[nodes.Node]:
        from rtdenoise.cli.config import TEMPLATE

        return [nodes.literal_block("", TEMPLATE.rstrip(), language="toml")]


class Record(SphinxDirective):
    """``{record} --in examples/noisy.wav --out {folder}/clean.wav --json``: the first record that a run prints."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [word.replace("{folder}", folder) for word in self.arguments[0].split()]
            command = [sys.executable, "-m", "rtdenoise", *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if not done.stdout.startswith("{"):
                raise self.error(f"rtdenoise {' '.join(arguments)} printed no record: {done.stderr.strip()}")
            first = done.stdout.splitlines()[0].replace(folder, "").replace(f"{ROOT}/", "")
        text = json.dumps(json.loads(first), indent=2, ensure_ascii=False)
        return [nodes.literal_block("", text, language="json")]


class Fields(SphinxDirective):
    """``{fields} rtdenoise.live.stats Stats``: names, types and comments of a dataclass."""

    required_arguments = 2
    option_spec = {"class": directives.class_option}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        record = getattr(import_module(self.arguments[0]), self.arguments[1])
        comments = dict(comments_of(record))
        items = []
        for f in fields(record):
            term = nodes.term("", "", nodes.literal("", f.name), nodes.Text(f" : {f.type}"))
            text = nodes.paragraph("", sentence(comments.get(f.name, "")))
            items.append(nodes.definition_list_item("", term, nodes.definition("", text)))
        return [nodes.definition_list("", *items)]


def comments_of(record: type) -> Iterator[tuple[str, str]]:
    """What stands behind the fields of a dataclass, or below them as a string."""
    source = inspect.getsourcelines(record)[0]
    body = ast.parse("".join(source)).body[0].body  # type: ignore[attr-defined]
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign):
            continue
        line = source[statement.end_lineno - 1]
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        text = after.value.value if documented else line[statement.end_col_offset :].strip().removeprefix("#")
        yield statement.target.id, " ".join(str(text).split())  # type: ignore[attr-defined]


def unlink_what_is_no_page(app: Sphinx, included: Path, page: str, content: list[str]) -> None:
    """In files from outside the site, links to Markdown files that are no pages of it become plain text."""

    def text_of(link: re.Match[str]) -> str:
        target = (Path(page).parent / link["target"]).as_posix()
        return link[0] if normpath(target).removesuffix(".md") in app.env.found_docs else link["text"]

    outside = not (Path(app.srcdir) / included).resolve().is_relative_to(app.srcdir)
    if outside:
        content[0] = re.sub(
            r"(?<!!)\[(?P<text>[^]]+)\]\((?P<target>(?![a-z]+:|docs/)[^)#\s]+\.md)\)", text_of, content[0]
        )


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("include-read", unlink_what_is_no_page)
    app.add_directive("command-line", CommandLine)
    app.add_directive("public-api", PublicApi)
    app.add_directive("configuration-template", ConfigurationTemplate)
    app.add_directive("record", Record)
    app.add_directive("fields", Fields)
    return {"parallel_read_safe": True}
