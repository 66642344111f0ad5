"""The panel lets in the page that was given its address, and nobody else; what it shows is true, and stays here."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp")
from command import ENVIRONMENT, ROOT
from rtdenoise.cli.main import main
from rtdenoise.live import microphones
from rtdenoise.panel import access, desktop, ends, memory
from rtdenoise.panel.access import Access
from rtdenoise.panel.engine import Engine
from rtdenoise.panel.history import COLUMNS_PER_S, FLOOR_DB, ROWS, SECONDS, History, matching_gain
from rtdenoise.panel.preferences import Preferences
from rtdenoise.panel.server import PAGE, PanelServer
from rtdenoise.profiles import BUILT_IN

PAGES = ROOT / "rtdenoise/panel/page"
STRANGER = 65_534  # nobody
RATE = 48_000


@pytest.fixture(scope="module")
def panel() -> Iterator[PanelServer]:
    """A panel whose session never starts: who may talk to it does not depend on sound."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "path", lambda: Path(folder) / "panel.json")
        engine = Engine({"input": "", "output": "", "profile": ""}, Preferences({}, dict, {}, {}))
        with PanelServer(engine) as server:
            yield server


def ask(panel: PanelServer, path: str, host: str | None = None, method: str = "GET", more: str = "") -> tuple[int, str]:
    """Status and the whole answer, by hand: a client library would mend what is sent."""
    port = panel.access.port
    host = f"127.0.0.1:{port}" if host is None else host
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        head = f"{method} {path} HTTP/1.1\r\n" + (f"Host: {host}\r\n" if host else "") + more
        client.sendall((head + "Connection: close\r\n\r\n").encode("latin-1"))
        answer = b""
        try:
            while data := client.recv(1 << 16):
                answer += data
        except ConnectionResetError:
            pass
    return int(answer.split(b" ", 2)[1]), answer.decode("utf-8", "replace")


def home(panel: PanelServer) -> str:
    return f"/{panel.access.token}/"


UPGRADE = (
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Connection: Upgrade\r\n"
)


def talk(panel: PanelServer, origin: str | None, token: str | None = None) -> int:
    """Status of an attempt to open the WebSocket."""
    with socket.create_connection(("127.0.0.1", panel.access.port), timeout=60) as client:
        head = f"GET /{token or panel.access.token}/ws HTTP/1.1\r\nHost: 127.0.0.1:{panel.access.port}\r\n" + UPGRADE
        head += f"Origin: {origin}\r\n" if origin is not None else ""
        client.sendall((head + "\r\n").encode())
        return int(client.recv(4096).split(b" ", 2)[1])


def test_the_page_and_all_its_parts_are_served(panel):
    for name in ("", *PAGE):
        status, answer = ask(panel, home(panel) + name)
        assert status == 200
        body = (PAGES / (name or "index.html")).read_text(encoding="utf-8")
        assert answer.endswith(body)
        assert all(f"{key}: {value}" in answer for key, value in access.HEADERS.items())
    assert set(PAGE) == {p.relative_to(PAGES).as_posix() for p in PAGES.rglob("*") if p.is_file()}


@pytest.mark.parametrize("token", ["", "x", "../", "%2e%2e/", "?", "a" * 43])
def test_a_wrong_token_is_refused_whatever_follows(panel, token):
    for rest in ("", "/", "/index.html", "/ws", "/report.txt", "/replay.wav"):
        assert ask(panel, f"/{token}{rest}")[0] == 403
    assert ask(panel, f"/{panel.access.token}")[0] == 403  # without the slash that ends it
    assert ask(panel, f"/{panel.access.token[:-1]}/")[0] == 403
    assert talk(panel, panel.access.origin, token="x" * 43) == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]:{port}",
        "127.0.0.1:{port}.evil",
    ],
)
def test_a_foreign_host_is_refused_as_in_an_attack_by_dns_rebinding(panel, host):
    assert ask(panel, home(panel), host.format(port=panel.access.port))[0] in (400, 403)
    assert ask(panel, home(panel) + "report.txt", host.format(port=panel.access.port))[0] in (400, 403)


def test_without_a_host_or_with_two_it_is_refused(panel):
    assert ask(panel, home(panel), "")[0] in (400, 403)
    more = f"Host: 127.0.0.1:{panel.access.port}\r\n"
    assert ask(panel, home(panel), "evil.example", more=more)[0] in (400, 403)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:1",
        "https://127.0.0.1:{port}",
        "http://localhost:{port}",
        "file://",
    ],
)
def test_another_origin_is_refused(panel, origin):
    origin = origin.format(port=panel.access.port)
    for name in ("", "report.txt", "replay.wav"):
        assert ask(panel, home(panel) + name, more=f"Origin: {origin}\r\n")[0] == 403
    assert talk(panel, origin) == 403


def test_a_websocket_without_origin_is_refused_and_the_pages_own_is_not(panel):
    assert talk(panel, None) == 403
    assert talk(panel, panel.access.origin) == 101


@pytest.mark.parametrize(
    "path",
    [
        *("../access.py", "..%2faccess.py", "%2e%2e/access.py", "..\\access.py", "texts/../../access.py"),
        *("texts/%2e%2e/panel.js", "index.html/../panel.js", "./panel.js", "/etc/passwd", "//etc/passwd"),
        *("texts", "texts/", "panel.js/", "panel.js%00", "INDEX.HTML"),
    ],
)
def test_nothing_but_the_named_files_is_ever_served(panel, path):
    status, answer = ask(panel, home(panel) + path)
    assert status in (400, 404)
    assert "root:" not in answer
    assert "hmac" not in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_no_method_but_get_does_anything(panel, method):
    assert ask(panel, home(panel), method=method)[0] == 405
    assert ask(panel, "/", method=method)[0] == 403


@given(
    st.lists(st.sampled_from(["127.0.0.1:80", "evil", "127.0.0.1", ""]), max_size=3),
    st.lists(st.sampled_from(["http://127.0.0.1:80", "null", "evil"]), max_size=3),
    st.text(max_size=80),
    st.booleans(),
)
def test_only_one_combination_is_ever_admitted(hosts, origins, path, websocket):
    rules = Access(80)
    assert rules.admitted(hosts, origins, path, websocket) is None
    allowed = hosts == ["127.0.0.1:80"] and (origins == ["http://127.0.0.1:80"] or (not origins and not websocket))
    assert (rules.admitted(hosts, origins, f"/{rules.token}/ws", websocket) == "ws") == allowed


def test_it_listens_on_no_other_address(panel):
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    ours = [
        line.split()[1] for line in listening.splitlines() if f":{panel.access.port:04X} " in line and " 0A " in line
    ]
    assert ours == [f"0100007F:{panel.access.port:04X}"]


def test_every_token_is_another(panel):
    assert len({Access(1).token for _ in range(100)}) == 100
    assert len(panel.access.token) >= 43


def start(home: str, *argv: str) -> subprocess.Popen:
    kept = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("XDG_", "PULSE_", "DISPLAY", "WAYLAND_"))}
    where = {"HOME": home, "XDG_RUNTIME_DIR": home, "PULSE_SERVER": f"unix:{home}/none", "JACK_NO_START_SERVER": "1"}
    line = [sys.executable, "-m", "rtdenoise", "panel", *argv]
    return subprocess.Popen(line, env=kept | where, stderr=subprocess.PIPE, text=True)


def url_of(process: subprocess.Popen) -> str:
    return re.search(r"http://127\.0\.0\.1:\d+/\S+", process.stderr.readline())[0]


@pytest.fixture
def place() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="rtd-") as folder:
        yield folder


@pytest.mark.steady
def test_it_answers_soon_leads_there_privately_and_leaves_nothing(place, capsys):
    import urllib.request

    plain, took = urllib.request.build_opener(urllib.request.ProxyHandler({})), []
    for _ in range(3):
        began = time.monotonic()
        process = start(place, "--no-browser")
        try:
            url = url_of(process)
            assert "<title>rtdenoise</title>" in plain.open(url).read().decode()
            took.append(time.monotonic() - began)
            lead = Path(place) / "rtdenoise/panel.html"
            assert url in lead.read_text()
            assert stat.S_IMODE(lead.stat().st_mode) == 0o600
            assert stat.S_IMODE(lead.parent.stat().st_mode) == 0o700
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 0, process.stderr.read()
        assert not list((Path(place) / "rtdenoise").iterdir())
    with capsys.disabled():
        print(f"\npanel: start to a page that answers {', '.join(f'{s:.2f}' for s in took)} s")
    assert min(took) <= 1.5


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can act as another user")
def test_another_user_learns_the_address_neither_from_the_file_nor_from_the_process(place):
    process = start(place, "--no-browser")
    try:
        token = url_of(process).rstrip("/").rpartition("/")[2]
        Path(place).chmod(0o755)
        code = f"import os, sys; os.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})\n"
        code += "for path in sys.argv[1:]:\n  try: print(open(path).read())\n  except PermissionError: print('refused')"
        paths = [f"{place}/rtdenoise/panel.html", f"/proc/{process.pid}/cmdline", f"/proc/{process.pid}/environ"]
        seen = subprocess.run([sys.executable, "-I", "-c", code, *paths], capture_output=True, text=True, check=False)
        assert seen.returncode == 0, seen.stderr
        assert seen.stdout.count("refused") == 2
        assert token not in seen.stdout
        again = start(place)  # leads the browser to the one that runs, and says no address
        assert "runs already" in again.communicate(timeout=120)[1]
        assert again.returncode == 0
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


class Sound:
    """A tap that gives what a test puts in."""

    def __init__(self) -> None:
        self.before = self.after = np.zeros((0, 1), np.float32)

    def put(self, before: np.ndarray, after: np.ndarray) -> None:
        self.before, self.after = before.astype(np.float32)[:, None], after.astype(np.float32)[:, None]

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        given, none = (self.before, self.after), np.zeros((0, 1), np.float32)
        self.before = self.after = none
        return given


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_a_tone_is_one_bright_line_at_its_pitch_and_level(rate):
    sound = Sound()
    history = History(sound, rate)
    t = np.arange(rate) / rate
    sound.put(np.sin(2 * np.pi * 1000 * t), 0.01 * np.sin(2 * np.pi * 1000 * t))
    history.take()
    count, data = history.columns(0)
    assert count == rate // (rate // COLUMNS_PER_S)
    before, after = (
        np.frombuffer(data, np.uint8).reshape(2, count, ROWS)[:, 5:].astype(float) * -FLOOR_DB / 255 + FLOOR_DB
    )
    top = min(8000, rate / 2)
    mel = lambda hz: 2595 * np.log10(1 + hz / 700)
    row = (mel(1000) - mel(50)) / (mel(top) - mel(50)) * (ROWS + 1) - 1
    assert abs(before.mean(0).argmax() - row) < 1.5
    assert before.max() == pytest.approx(0, abs=4)
    assert before.max() - after.max() == pytest.approx(40, abs=2)
    assert np.median(before) < -60
    assert history.levels_db == pytest.approx([-3, -43], abs=0.1)


def test_pieces_of_any_size_give_the_columns_that_one_piece_gives(rng):
    x, y = rng.standard_normal((2, 3 * RATE)) * 0.1
    whole, parts = Sound(), Sound()
    one, many = History(whole, RATE), History(parts, RATE)
    whole.put(x, y)
    one.take()
    expected = np.frombuffer(one.columns(0)[1], np.uint8).reshape(2, -1, ROWS)
    at, found = 0, []
    while at < len(x):
        size = int(rng.integers(1, 5000))
        parts.put(x[at : at + size], y[at : at + size])
        before = many.taken
        many.take()
        count, data = many.columns(before)
        found.append(np.frombuffer(data, np.uint8).reshape(2, count, ROWS))
        at += size
    assert np.array_equal(np.concatenate(found, axis=1), expected)


def test_the_replay_is_the_last_ten_seconds_with_speech_equally_loud_on_both_sides(rng):
    sound = Sound()
    history = History(sound, RATE)
    speaks = (np.arange(12 * RATE) // RATE) % 2 == 0
    voice = rng.standard_normal(12 * RATE) * 0.1 * speaks
    noise = rng.standard_normal(12 * RATE) * 0.1
    for at in range(0, len(voice), RATE // 2):
        part = slice(at, at + RATE // 2)
        sound.put((voice + noise)[part], (voice + 0.01 * noise)[part])
        history.take()
    data, gain_db = history.wav()
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE, SECONDS * RATE)
        left, right = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T / 32767
    speaks = speaks[-SECONDS * RATE :]
    assert np.std(left[speaks]) == pytest.approx(np.std(right[speaks]), rel=0.03)
    assert gain_db == pytest.approx(-3, abs=0.3)
    assert np.std(left[~speaks]) > 20 * np.std(right[~speaks])
    assert np.allclose(right, (voice + 0.01 * noise)[-SECONDS * RATE :], atol=1e-4)


@pytest.mark.parametrize("after", [0.0, 1e-9, 0.001, 1.0])
def test_a_level_is_matched_within_reason_also_of_silence(after, rng):
    x = rng.standard_normal(RATE)
    gain = matching_gain(0.1 * x, after * x, 960)
    assert np.isfinite(gain)
    assert (
        gain == pytest.approx(after * 10)
        if after > 0.003 * 1.01
        else gain in (1.0, pytest.approx(10**-1.5)) or gain == pytest.approx(after * 10)
    )
    assert matching_gain(np.zeros(0), np.zeros(0), 960) == 1.0


def test_both_languages_have_the_same_texts_and_the_page_asks_for_no_other():
    texts = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (PAGES / "texts").glob("*.json")}
    assert set(texts) == set(memory.LANGUAGES)
    assert set(texts["de"]) == set(texts["en"])
    values = lambda text: sorted(re.findall(r"\{\w+\}", text))
    assert all(values(texts["de"][key]) == values(texts["en"][key]) for key in texts["en"])
    page = (PAGES / "index.html").read_text() + (PAGES / "panel.js").read_text()
    asked = set(re.findall(r'data-(?:text|label)="([\w.-]+)"', page)) | set(re.findall(r'\bt\(\s*"([\w.-]+)"', page))
    asked |= set(re.findall(r'\? "([a-z]+\.[a-z-]+)"', page)) | set(re.findall(r': "([a-z]+\.[a-z-]+)"', page))
    assert asked <= set(texts["en"])
    built = {f"{prefix}." for prefix in re.findall(r"t\(`(\w+)\.\$", page)}
    assert not {key for key in set(texts["en"]) - asked if not key.startswith(tuple(built))}


def test_the_page_asks_for_nothing_from_elsewhere():
    for file in PAGES.rglob("*"):
        if file.is_file():
            text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://|@import|\bimport\(|eval\(|innerHTML", text), file


def test_what_was_chosen_is_remembered_and_what_makes_no_sense_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "path", lambda: tmp_path / "deep" / "panel.json")
    assert memory.load() == memory.Memory()
    kept = memory.Memory().but({"input": "USB", "language": "de", "guided": True, "profile": "call"})
    memory.save(kept)
    assert memory.load() == kept
    assert stat.S_IMODE(memory.path().stat().st_mode) == 0o600
    nonsense = {
        "input": 5,
        "output": "x" * 2000,
        "profile": 3,
        "language": "xx",
        "guided": "yes",
        "other": 1,
    }
    assert memory.Memory().but(nonsense) == memory.Memory()
    for text in ("", "[]", "{", '{"input": 7}', "[" * 100_000, "\0"):
        memory.path().write_text(text)
        assert memory.load() == memory.Memory()
    monkeypatch.setattr(memory, "path", lambda: None)
    memory.save(kept)
    assert memory.load() == memory.Memory()


def test_a_profile_that_there_is_not_is_refused_in_one_line(capfd):
    assert main(["panel", "--no-browser", "--profile", "podcats"]) == 2
    assert "unknown profile 'podcats', did you mean podcast?" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("before", "chosen", "output"),
    [
        (("", "virtual-mic"), {"input": "virtual-speaker"}, ""),
        (("USB", "B"), {"input": "virtual-speaker"}, "B"),
        (("virtual-speaker", ""), {"input": "USB"}, "virtual-mic"),
        (("virtual-speaker", "B"), {"input": "USB"}, "B"),
        (("virtual-speaker", ""), {"input": "virtual-speaker"}, ""),
        (("", ""), {"input": "USB"}, ""),
        (("", "virtual-mic"), {"input": "virtual-speaker", "output": "virtual-mic"}, "virtual-mic"),
        (("virtual-speaker", ""), {"profile": "call"}, ""),
    ],
)
def test_the_output_goes_with_the_input_unless_it_is_chosen_too(before, chosen, output):
    choices = {"input": before[0], "output": before[1], "profile": ""}
    engine = Engine(choices, Preferences({}, lambda: BUILT_IN, {}, {}))
    engine.choose(dict(chosen))
    assert engine.choices["output"] == output
    assert ends.with_other_end(choices, {}) == {}


@pytest.mark.parametrize(
    ("end", "says"), [("--in=virtual-mic", "use it as --out"), ("--out=virtual-speaker", "use it as --in")]
)
def test_a_virtual_device_on_the_wrong_side_is_refused_in_one_line(capfd, end, says):
    assert main(["panel", "--no-browser", end]) == 2
    said = capfd.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_only_a_profile_that_somebody_chose_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "path", lambda: tmp_path / "panel.json")
    monkeypatch.setattr(microphones, "path", lambda: tmp_path / "microphones.json")
    choices = {"input": "", "output": "", "profile": "podcast"}  # as configured
    with PanelServer(Engine(choices, Preferences({}, lambda: BUILT_IN, {}, {}))):
        pass
    assert not list(tmp_path.iterdir())
    engine = Engine(choices, Preferences({}, lambda: BUILT_IN, {}, {}))
    with PanelServer(engine):
        engine.choose({"profile": "call"})
    assert memory.load().profile == "call"


@pytest.mark.skipif(sys.platform != "linux", reason="desktop entries are Linux's")
def test_the_desktop_entry_is_written_again_and_removed(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", '/odd place/py"th$on%')
    for _ in range(2):
        assert main(["panel", "--install"]) == 0
    entry = desktop.entry_path().read_text()
    assert 'Exec="/odd place/py\\\\"th\\\\$on%%" -m rtdenoise panel\n' in entry
    assert desktop.icon_path().read_text() == (PAGES / "icon.svg").read_text()
    assert main(["panel", "--remove"]) == 0
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    desktop.entry_path().write_text("[Desktop Entry]\nName=mine\n")
    assert main(["panel", "--install"]) == 2
    assert "was not made by this command" in capfd.readouterr().err
    assert desktop.entry_path().read_text().endswith("mine\n")


def test_without_the_library_it_says_what_to_install():
    code = "import sys; sys.modules['aiohttp'] = None\nfrom rtdenoise.cli.main import main\nsys.exit(main(['panel']))"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'rtdenoise[panel]'" in done.stderr
