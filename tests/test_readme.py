"""What the README shows works when typed."""

import re
from pathlib import Path

import pytest

import rtdenoise

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_is_a_snippet():
    assert SNIPPETS


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_snippet_runs(snippet, capsys):
    names: dict = {}
    exec(compile(snippet, "README.md", "exec"), names)
    assert names["clean"].shape == names["noisy"].shape
    assert sum(map(len, names["parts"])) == len(names["noisy"]) + names["stream"].latency_samples
    assert "delay 16 ms" in capsys.readouterr().out


@pytest.mark.parametrize("snippet", re.findall(r"```py\n(.*?)```", README, re.DOTALL))
def test_snippet_that_needs_a_microphone_names_what_exists(snippet):
    compile(snippet, "README.md", "exec")
    assert all(hasattr(rtdenoise, name) for name in re.findall(r"rtdenoise\.(\w+)", snippet))


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("verb", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_make_verbs_exist(verb):
    assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_generated_tables_are_filled():
    sections = re.findall(r"<!-- \$ (.*?) -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert sections
    assert all("|" in table for _, table in sections)
