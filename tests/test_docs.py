"""The site builds without a warning, its links lead somewhere, and its reference names everything there is."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import rtdenoise
import rtdenoise_bench.cli as bench_command
from rtdenoise.cli import main as command

pytest.importorskip("sphinx", reason="pip install 'rtdenoise[docs]'")
pytest.importorskip("torch", reason="the parsers of training need pip install 'rtdenoise[train]'")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


class Page(HTMLParser):
    """What one page offers and asks for: anchors, links with pictures and sounds, and text set as code."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.anchors, self.targets, self.code = path, set(), [], []
        self._in_code = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        self.targets += [given[name] for name in ("href", "src") if given.get(name)]
        if tag == "code" or self._in_code:
            self._in_code += 1
            if self._in_code == 1:
                self.code.append("")

    def handle_endtag(self, tag):
        self._in_code = max(0, self._in_code - 1)

    def handle_data(self, data):
        if self._in_code:
            self.code[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "docs", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path.relative_to(folder): Page(path) for path in folder.rglob("*.html")}


def test_every_link_picture_and_anchor_of_the_site_leads_somewhere(site):
    broken = []
    for page in site.values():
        for target in page.targets:
            if re.match(r"(https?|mailto|data):", target):
                continue
            place, _, anchor = unquote(target).partition("#")
            path = (page.path.parent / place.split("?")[0]).resolve() if place else page.path
            known = next((other for other in site.values() if other.path == path), None)
            if not path.exists() or (anchor and known and anchor not in known.anchors):
                broken.append(f"{page.path.name}: {target}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site):
    """A page that fetches fonts or scripts would tell others who reads it, and would not work offline."""
    for page in site.values():
        loaded = re.findall(
            r"<(?:script|img|audio|source|link)\b[^>]*(?:src|href)=\"(https?://[^\"]+)", page.path.read_text()
        )
        assert not loaded, page.path


@pytest.mark.parametrize(
    ("program", "place", "parsers"),
    [
        ("rtdenoise", "reference/command-line.html", command.parsers),
        ("rtdenoise-bench", "reference/bench.html", bench_command.parsers),
    ],
)
def test_reference_names_every_command_and_option(site, program, place, parsers):
    code = site[Path(place)].code
    words = {word for text in code for word in text.split()}
    for name, parser in parsers().items():
        assert name in code
        for action in parser._actions:
            if action.help != argparse.SUPPRESS:
                assert set(action.option_strings) <= words, f"{name}: {action.option_strings}"


def test_reference_names_every_public_name_and_what_it_offers(site):
    anchors = site[Path("reference/python.html")].anchors
    for name in rtdenoise.__all__:
        assert f"rtdenoise.{name}" in anchors
        thing = getattr(rtdenoise, name)
        for member, value in vars(thing).items() if isinstance(thing, type) else ():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)) and value.__doc__:
                assert f"rtdenoise.{name}.{member}" in anchors


def test_every_environment_variable_that_is_read_is_documented(site):
    read = set()
    for path in (ROOT / "rtdenoise").rglob("*.py"):
        read |= set(re.findall(r"environ(?:\.get\(|\.setdefault\(|\[)\"(\w+)\"", path.read_text(encoding="utf-8")))
    assert read
    assert read <= set(site[Path("reference/environment.html")].code)


MARKDOWN = [*ROOT.glob("*.md"), *(ROOT / "models").glob("*.md")]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_pages_outside_the_site_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
