"""What the README and the docs show works when typed, and what they print is printed by a command."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import rtdenoise

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    str(p.relative_to(ROOT)): p.read_text(encoding="utf-8")
    for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
}


def blocks(language: str) -> list:
    """Pages with their code blocks of this language, in order."""
    found = {
        page: re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for page, text in PAGES.items()
    }
    return [pytest.param(page, code, id=page) for page, code in found.items() if code]


@pytest.mark.parametrize(("page", "snippets"), blocks("python"))
def test_python_snippets_run_one_after_the_other(page, snippets, tmp_path, monkeypatch, capsys):
    if any("import onnx\n" in code for code in snippets):
        pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in snippets:
        exec(compile(code, page, "exec"), names)
    assert names["clean"].shape == names["noisy"].shape
    if "stream" in names:
        assert sum(map(len, names["parts"])) in (
            len(names["noisy"]),
            len(names["noisy"]) + names["stream"].latency_samples,
        )
        assert f"{names['stream'].latency_ms:.0f}" == "16"


@pytest.mark.parametrize(("page", "snippets"), blocks("py"))
def test_snippets_that_need_a_microphone_name_what_exists(page, snippets):
    for code in snippets:
        compile(code, page, "exec")
        for name in re.findall(r"rtdenoise\.(\w+)", code):
            assert hasattr(rtdenoise, name) or find_spec(f"rtdenoise.{name}"), name


@pytest.mark.parametrize(("page", "snippets"), blocks("sh"))
def test_commands_that_are_shown_exist_with_their_options(page, snippets):
    from rtdenoise.cli.main import COMMANDS, parsers
    from rtdenoise_bench.cli import COMMANDS as BENCH_COMMANDS
    from rtdenoise_bench.cli import parsers as bench_parsers

    pytest.importorskip("torch", reason="the parsers of training need pip install 'rtdenoise[train]'")
    known = parsers() | bench_parsers()
    lines = "\n".join(snippets).replace("\\\n", " ").splitlines()
    uses = [
        use for line in lines for use in re.findall(r"(?:^|\| |; )(rtdenoise(?:-bench)?(?= |$)[^|>#]*)", line.strip())
    ]
    for use in uses:
        program, *words = use.split()
        names = COMMANDS if program == "rtdenoise" else BENCH_COMMANDS
        default = program if program == "rtdenoise" else f"{program} report"
        parser = known[f"{program} {words[0]}" if words and words[0] in names else default]
        options = {word.split("=")[0] for word in words if word.startswith("--")} - {"--help", "--version"}
        assert options <= {s for action in parser._actions for s in action.option_strings}, use


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", PAGES["README.md"]))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_make_verbs_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    quoted = [line for text in PAGES.values() for line in re.findall("`(make [^`]*)`", text)]
    shown = "\n".join([*quoted, *(code for page in blocks("sh") for code in page.values[1])])
    verbs = {verb for line in re.findall(r"^make (.*?)(?=#|$)", shown, re.MULTILINE) for verb in line.split()}
    assert {"demo", "docs"} <= verbs
    assert [verb for verb in verbs if "=" not in verb and not re.search(rf"^{verb}:", makefile, re.MULTILINE)] == []


def test_readme_stays_short():
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_generated_tables_are_filled():
    sections = [
        s for text in PAGES.values() for s in re.findall(r"<!-- \$ (.*?) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    ]
    assert {command.split()[0] for command, _ in sections} == {"rtdenoise", "rtdenoise-bench"}
    assert all("|" in table for _, table in sections)


@pytest.mark.parametrize("command", ["rtdenoise models --markdown", "rtdenoise models --peers --markdown"])
def test_tables_of_models_are_what_the_command_prints(command, capsys):
    from rtdenoise.cli.main import main

    assert main(command.split()[1:]) == 0
    printed = capsys.readouterr().out.strip()
    shown = [
        m for text in PAGES.values() for m in re.findall(rf"<!-- \$ {command} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    ]
    assert shown
    assert {table.strip() for table in shown} == {printed}
