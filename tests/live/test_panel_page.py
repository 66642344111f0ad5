"""The panel in a real browser, over a real sound server: what it shows moves, and what is pressed is heard."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from command import wait_for
from conftest import modulated_noise
from rtdenoise.control.client import Client
from rtdenoise.control.sockets import ControlError
from rtdenoise_bench.measure import recordings
from rtdenoise_bench.measure.correlation import RATE
from running import DEADLINE_S, output_of, wait_until

pytest.importorskip("aiohttp")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DEADLINE_MS = 1000 * DEADLINE_S
PIECE = RATE // 10
MUTE_MS, AGREE_S, OPEN_PERCENT, CLOSED_PERCENT = 50, 0.2, 5.0, 0.2
SHOTS = os.environ.get("PANEL_SHOTS")  # a folder for pictures of the page, for those who want to look


@pytest.fixture(scope="module")
def env(pipewire_env) -> Iterator[dict[str, str]]:
    """A loud voice in noise comes out of A, whose monitor is the microphone; B is the loudspeaker."""
    if BROWSER is None:
        pytest.skip("not installed: chromium (make system)")
    env = pipewire_env | {"PYTHONPATH": str(ROOT)}
    subprocess.run(["pactl", "set-default-sink", "B"], env=env, check=True)
    rng = np.random.default_rng(3)
    sound = 0.5 * modulated_noise(rng, RATE * 20, 1, RATE)[:, 0] + 0.03 * rng.standard_normal(RATE * 20)
    with recordings.pulse_playing(env, "A", sound, times=60):
        yield env


@pytest.fixture(scope="module")
def url(env) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "rtdenoise", "panel", "--no-browser"], env=env, stderr=subprocess.PIPE, text=True
    )
    yield re.search(r"http://127\.0\.0\.1:\d+/\S+", process.stderr.readline())[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 0
    assert process.stderr.read() == ""
    sources = subprocess.run(
        ["pactl", "list", "short", "sources"], env=env, capture_output=True, text=True, check=False
    )
    assert sources.returncode == 0, sources.stderr
    assert "rtdenoise" not in sources.stdout


@pytest.fixture(scope="module")
def browser(env) -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        options = {"args": ["--no-sandbox"], "ignore_default_args": ["--mute-audio"], "env": env}
        browser = playwright.chromium.launch(executable_path=BROWSER, **options)
        yield browser
        browser.close()


class Seen:
    """A page, with all that it asked for and complained of."""

    def __init__(self, browser: sync_api.Browser, url: str, width: int = 1280, scheme: str = "light", lang: str = "en"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale=lang)
        self.page, self.url = self.context.new_page(), url
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.set_default_timeout(DEADLINE_MS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.runs()

    def runs(self) -> None:
        self.page.wait_for_selector("body[data-phase=running]")

    def state(self) -> dict:
        return self.page.evaluate("rtdenoise.state()")

    def until(self, condition) -> None:
        def holds() -> bool:
            try:
                return condition(self.state())
            except TypeError:  # While a session is being opened, there is no status.
                return False

        end = time.monotonic() + DEADLINE_MS / 1000
        while not holds():
            assert time.monotonic() < end, self.state()
            self.page.wait_for_timeout(20)

    def picture(self, side: str) -> np.ndarray:
        """Red, green and blue of the newest fifth of a spectrogram, rows from the highest pitch down."""
        code = "(id) => Array.from(document.getElementById(id).getContext('2d').getImageData(384, 0, 96, 80).data)"
        return np.array(self.page.evaluate(code, f"picture-{side}")).reshape(80, 96, 4)[:, :, :3]

    def close(self) -> None:
        self.context.close()
        own = "Canvas2D: Multiple readback"  # of `picture`, not of the page
        assert [error for error in self.errors if not error.startswith(own)] == []
        origin = self.url.rsplit("/", 2)[0]
        assert all(r.startswith((origin, origin.replace("http", "ws"), "data:", "blob:")) for r in self.requests)


@pytest.fixture
def seen(browser, url) -> Iterator[Seen]:
    seen = Seen(browser, url)
    yield seen
    seen.close()


def heard(env: dict[str, str], source: str = "rtdenoise_microphone", seconds: float = 1.0) -> np.ndarray:
    recorder = recordings.Recorder(env, source)
    time.sleep(seconds)
    return recorder.stop().samples[-int((seconds - 0.4) * RATE) :]


def hiss(samples: np.ndarray) -> float:
    """Level above the voice's harmonics in dB, which is noise alone: the median of tenths of a second, since clicks of
    a busy machine are in some of them."""
    pieces = samples[: len(samples) // PIECE * PIECE].reshape(-1, PIECE)
    power = np.abs(np.fft.rfft(pieces * np.hanning(PIECE))) ** 2
    hz = np.fft.rfftfreq(PIECE, 1 / RATE)
    return float(10 * np.log10(np.median(power[:, (hz > 3000) & (hz < 7000)].mean(axis=1)) + 1e-12))


def test_the_whole_first_run_by_keyboard_alone(browser, url, env):
    """Choose the microphone, see it, hear it before and after, close the guide: with the keys of a keyboard."""
    first = Seen(browser, url)
    page = first.page
    page.get_by_role("heading", name="In four steps").wait_for()
    reached: list[str] = []

    def to(id: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
            if reached[-1] == id:
                return
        raise AssertionError(reached)

    first.until(lambda s: any("Monitor of A" in d["label"] for d in s["devices"]["inputs"]))
    to("input")
    for _ in range(20):
        if "Monitor of A" in page.evaluate("document.activeElement.selectedOptions[0].label"):
            break
        page.keyboard.press("ArrowDown")
    first.until(lambda s: s["phase"] == "running" and "Monitor of A" in s["status"]["input"])
    first.until(lambda s: s["status"]["seconds"] > 1)
    to("replay")
    page.keyboard.press("Enter")
    page.get_by_text("You hear the sound after the filter.").wait_for()
    page.keyboard.press("a")
    page.get_by_text("You hear the sound before the filter.").wait_for()
    page.keyboard.press("r")
    to("close-guide")
    page.keyboard.press("Enter")
    assert page.locator("#guide").is_hidden()
    first.until(lambda s: s["memory"]["guided"])
    page.reload()
    first.runs()
    assert page.locator("#guide").is_hidden()
    first.close()


def test_spectrograms_move_and_show_less_noise_after_than_before(seen):
    hiss_of = lambda side: seen.picture(side)[:20].mean()  # above the voice
    wait_until(lambda: hiss_of("before") > hiss_of("after") + 20)
    before = seen.picture("before")
    wait_until(lambda: np.mean(seen.picture("before") != before) > 0.2)
    meter = seen.page.get_by_role("meter", name="Level before the filter, in dB")
    wait_until(lambda: meter.get_attribute("aria-valuenow") != "-60")


def test_the_replay_plays_one_side_and_then_the_other(seen, env):
    page = seen.page
    page.get_by_role("button", name="Play the last 10 seconds").click()
    page.get_by_text("You hear the sound after the filter.").wait_for()
    after = hiss(heard(env, "B.monitor"))
    page.keyboard.press("a")
    page.get_by_text("You hear the sound before the filter.").wait_for()
    wait_until(lambda: page.evaluate("rtdenoise.replay.level()") > 0.001)
    wait_until(lambda: hiss(heard(env, "B.monitor")) > after + 10)
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("rtdenoise.replay.level()") == 0


def test_what_is_switched_is_heard_at_the_virtual_microphone(seen, env):
    filtered = hiss(heard(env))
    seen.page.get_by_role("button", name="Filter is on").click()
    seen.until(lambda s: s["status"]["bypass"])
    unfiltered = hiss(heard(env))
    seen.page.get_by_role("button", name="Filter is off").click()
    seen.page.get_by_role("button", name="keep the room").click()
    seen.until(lambda s: s["status"]["strength_db"] == 12 and not s["status"]["bypass"])
    limited = hiss(heard(env))
    seen.page.locator("#strength").press("End")
    seen.until(lambda s: s["status"]["strength_db"] is None)
    assert unfiltered - filtered > 15
    assert unfiltered - limited == pytest.approx(12, abs=2)


@pytest.mark.steady
def test_mute_is_silence_within_fifty_milliseconds_of_the_key(seen, env, capsys):
    page, recorder, pressed = seen.page, recordings.Recorder(env, "rtdenoise_microphone"), []
    page.evaluate("addEventListener('keydown', (e) => (window.at = performance.timeOrigin + e.timeStamp), true)")
    time.sleep(1)
    for _ in range(4):
        page.keyboard.press("m")
        seen.until(lambda s: s["status"]["muted"])
        pressed.append(page.evaluate("window.at") / 1000)
        time.sleep(0.4)
        page.keyboard.press("m")
        seen.until(lambda s: not s["status"]["muted"])
        time.sleep(0.4)
    recording, epoch = recorder.stop(), time.time() - time.monotonic()
    index = np.arange(len(recording.samples))
    at = recording.clock(index) + index / RATE + epoch
    sounding = np.abs(recording.samples) > 1e-4
    last = [at[(at > t) & (at < t + 0.4) & sounding][-1:] for t in pressed]
    assert all(map(len, last)), "nothing sounded when the key was pressed"
    took = [1000 * (float(moment[0]) - t) for moment, t in zip(last, pressed, strict=True)]
    with capsys.disabled():
        print(f"\npanel: key to silence at the virtual microphone: {', '.join(f'{ms:.0f}' for ms in took)} ms")
    assert np.percentile(took, 25) <= MUTE_MS  # Stalls of the host, and of the browser beside it, only add.


def test_another_output_is_taken_and_a_reload_keeps_all(seen, env):
    page = seen.page
    page.get_by_label("Where the clean sound goes").select_option(label="B, PipeWire")
    seen.until(lambda s: s["phase"] == "running" and s["status"]["output"].startswith("B,"))
    wait_until(lambda: np.std(heard(env, "B.monitor")) > 0.001)
    page.get_by_role("button", name="a quiet room").click()
    page.get_by_role("button", name="Mute").click()
    page.get_by_label("Language").select_option("de")
    page.get_by_role("button", name="Stumm", exact=True).wait_for()
    seen.until(lambda s: s["memory"]["language"] == "de" and s["settings"]["strength_db"] == 24)
    kept = seen.state()["choices"], seen.state()["settings"]
    page.add_init_script("performance.now = () => 1")  # as if all were there at once
    page.reload()
    seen.runs()
    page.get_by_role("button", name="Stumm", exact=True).wait_for()
    assert (seen.state()["choices"], seen.state()["settings"]) == kept
    assert page.locator("#strength").input_value() == "24"
    page.get_by_label("Sprache").select_option("en")
    page.get_by_role("button", name="Muted").click()
    page.get_by_label("Where the clean sound goes").select_option("virtual-mic")
    seen.until(lambda s: s["phase"] == "running" and "rtdenoise" in s["status"]["output"])


def test_what_programs_play_goes_to_the_loudspeakers_and_a_microphone_to_the_virtual_one(seen, env, rng):
    page, sinks = seen.page, lambda: output_of(env, "pactl", "list", "short", "sinks")
    page.locator("#input").select_option("virtual-speaker")
    seen.until(lambda s: s["phase"] == "running" and "rtdenoise speaker" in s["status"]["input"])
    assert seen.state()["choices"]["output"] == ""
    page.get_by_text("choose “rtdenoise speaker” as the output").wait_for()
    seen.page.get_by_role("button", name="Filter is on").click()  # What is played here is noise alone.
    with recordings.pulse_playing(env, "rtdenoise_speaker", 0.1 * rng.standard_normal(2 * RATE), times=60):
        wait_until(lambda: np.std(heard(env, "B.monitor")) > 0.01)
    seen.page.get_by_role("button", name="Filter is off").click()
    page.locator("#input").select_option("A.monitor")
    seen.until(lambda s: s["phase"] == "running" and "rtdenoise" in s["status"]["output"])
    assert seen.state()["choices"]["output"] == "virtual-mic"
    assert page.locator("#speaker-hint").is_hidden()
    assert "rtdenoise_speaker" not in sinks()


@pytest.mark.steady
def test_two_pages_and_the_command_agree_within_a_fifth_of_a_second(seen, browser, url, env, monkeypatch, capsys):
    """By one clock, from the click or the command to the moment when each of the others shows it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", env["XDG_RUNTIME_DIR"])
    other, took = Seen(browser, url), {"page": [], "watch": [], "ctl": []}
    pages = (seen.page, other.page)
    for page in pages:
        page.evaluate(
            "new MutationObserver(() => (window.shownAt = Date.now())).observe(document.getElementById('mute'), "
            "{ attributes: true, attributeFilter: ['aria-pressed'] })"
        )

    def shown(page, pressed: str) -> float:
        page.locator(f"#mute[aria-pressed={pressed}]").wait_for()
        return page.evaluate("window.shownAt") / 1000

    def muted_at(since: float) -> float | None:
        return next((at for at, muted in news if muted and at >= since), None)

    def watch(watcher: Client) -> None:
        with contextlib.suppress(ControlError):
            news.extend((time.time(), status["muted"]) for status in watcher.watch())

    with contextlib.closing(other), Client() as watcher, Client() as command:
        news: list[tuple[float, bool]] = []
        threading.Thread(target=watch, args=(watcher,), daemon=True).start()
        for _ in range(6):
            press = "() => { const at = Date.now(); document.getElementById('mute').click(); return at; }"
            began = seen.page.evaluate(press) / 1000
            took["page"].append(shown(other.page, "true") - began)
            wait_for(lambda since=began: muted_at(since))
            took["watch"].append(muted_at(began) - began)
            began = time.time()
            command.ask("set", {"muted": False})
            took["ctl"] += [shown(page, "false") - began for page in pages]
            time.sleep(0.15)
    with capsys.disabled():
        for name, seconds in took.items():
            ms = sorted(round(1000 * s) for s in seconds)
            print(f"\npanel: agreement, {name}: median {np.median(ms):.0f} ms, most {ms[-1]} ms", end="")
        print()
    # Stalls of the host, and of two browsers' pages on it, only add.
    assert all(np.percentile(seconds, 25) <= AGREE_S for seconds in took.values())


def test_profiles_are_taken_on_without_a_gap_unless_the_timing_is_another(seen, env):
    page, before = seen.page, seen.state()["status"]
    page.get_by_label("Profile").select_option("far-microphone")
    seen.until(lambda s: s["settings"]["strength_db"] == 18)
    assert seen.state()["status"]["seconds"] > before["seconds"]  # It is the same session still.
    page.get_by_label("Profile").select_option("music-practice")
    seen.until(lambda s: s["phase"] == "running" and s["status"]["algorithmic_latency_ms"] == 8)
    assert seen.state()["settings"]["strength_db"] == 6
    ctl = sys.executable, "-m", "rtdenoise", "ctl", "profile"
    refused = subprocess.run([*ctl, "far-microphone"], env=env, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "which a running session cannot take on; start it again with --profile far-microphone" in refused.stderr
    assert refused.stderr.count("\n") == 1
    page.get_by_label("Profile").select_option("podcast")
    seen.until(lambda s: s["phase"] == "running" and s["status"]["algorithmic_latency_ms"] == 40)
    assert seen.state()["settings"]["strength_db"] == 12
    page.get_by_label("Profile").select_option("call")
    seen.until(lambda s: s["phase"] == "running" and s["status"]["algorithmic_latency_ms"] == 16)
    output_of(env, *ctl, "far-microphone")
    wait_for(lambda: page.evaluate("document.getElementById('profile').value") == "far-microphone")
    assert page.locator("#strength").input_value() == "18"
    page.get_by_label("Profile").select_option("call")
    seen.until(lambda s: s["status"]["strength_db"] is None)


def test_what_is_said_without_a_connection_is_told_once_it_is_back(seen):
    """The last word on each thing, whatever came before."""
    sockets = []

    def through(socket) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    seen.page.route_web_socket(re.compile("/ws$"), through)
    seen.page.reload()
    seen.runs()
    before = seen.state()["settings"]
    slide = (
        "(db) => { const s = document.getElementById('strength'); s.value = db; s.dispatchEvent(new Event('input')); }"
    )
    sockets[0].close()
    seen.page.wait_for_selector("body[data-phase=away]")
    for strength_db in (12, 24, 9):
        seen.page.evaluate(slide, strength_db)
    seen.page.select_option("#low-cut", "80")
    seen.until(lambda s: s["settings"]["strength_db"] == 9 and s["settings"]["low_cut_hz"] == 80)
    assert len(sockets) == 2
    seen.page.select_option("#low-cut", "")
    seen.page.evaluate(slide, 60)
    seen.until(lambda s: s["settings"] == before)


def test_a_device_that_cannot_be_had_is_told_in_words_and_tried_again(seen):
    page = seen.page
    page.evaluate("document.getElementById('output').append(new Option('gone', 'no such device'))")
    page.locator("#output").select_option("no such device")
    page.get_by_role("alert").get_by_text("no output matches 'no such device'").wait_for()
    page.locator("#output").select_option("virtual-mic")
    seen.runs()
    assert page.get_by_role("alert").is_hidden()


@pytest.mark.parametrize(("width", "scheme", "lang"), [(390, "light", "de"), (1280, "dark", "en")])
def test_it_fits_every_width_in_both_themes_and_anyone_can_use_it(browser, url, width, scheme, lang):
    """Nothing is wider than the window; axe-core finds nothing serious."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    seen = Seen(browser, url, width, scheme, lang)
    page = seen.page
    page.locator("#language").select_option(lang)
    page.locator(f"html[lang={lang}]").wait_for()
    page.locator("#open-guide").click()
    page.locator("#health details summary").click()
    page.wait_for_timeout(300)
    found = page.evaluate(Path(axe.__file__).with_name("axe.min.js").read_text() + "; axe.run({ preload: false })")
    bad = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")]
    assert bad == []
    assert found["passes"]
    for other in (320, 390, 768, 1280, 1920):
        page.set_viewport_size({"width": other, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= other
        for theme in ("light", "dark") if SHOTS and other in (390, 1280) else ():
            page.emulate_media(color_scheme=theme)
            page.screenshot(path=f"{SHOTS}/panel-{other}-{theme}-{lang}.png", full_page=True)
    seen.close()


ALL_WELL = {
    **{"underruns": 0, "reused_gains": 0, "scheduling": "fifo", "worker": "native", "model_ms_p99": 1.0},
    **{"cpu_percent": 9.0, "fallback": None, "latency_ms": 20.0, "device_latency_ms": None},
}
ADVICE = {
    "so other programs can cause gaps": {"underruns": 9, "scheduling": "normal"},
    "runs in the slower way": {"worker": "python"},
    "a lighter one keeps up better": {"reused_gains": 5, "model_ms_p99": 3.2},
    "Close other programs": {"cpu_percent": 95.0},
    "there are more buffers: the graph runs at 96000 Hz.": {"fallback": "the graph runs at 96000 Hz"},
    "wired ones are quicker than Bluetooth": {"device_latency_ms": 180.0},
    "choose the profile “Music practice”": {"latency_ms": 80.0},
    "People may talk into each other": {"latency_ms": 200.0},
}


def test_what_to_change_is_said_where_something_is_wrong_and_only_there(browser, url):
    """With figures that the server did not send put among those that it did."""
    page, wrong = browser.new_page(locale="en"), {}

    def relay(ws: sync_api.WebSocketRoute) -> None:
        def pass_on(message: str | bytes) -> None:
            told = json.loads(message) if isinstance(message, str) else {}
            if told.get("status"):
                told["memory"]["language"] = "en"
                told["choices"]["profile"] = ""
                told["status"] |= ALL_WELL | wrong
                message = json.dumps(told)
            ws.send(message)

        ws.connect_to_server().on_message(pass_on)

    page.route_web_socket("**/ws", relay)
    page.goto(url)
    words = page.locator("#words")
    words.get_by_text("Nobody notices").wait_for()
    for text, figures in ADVICE.items():
        wrong.clear()
        words.get_by_text("Nobody notices").wait_for()
        words.get_by_text(text).wait_for(state="detached")
        wrong.update(figures)
        words.get_by_text(text).wait_for()
    page.close()


def test_the_report_names_version_and_devices_and_no_address(seen, url):
    seen.page.get_by_role("button", name="Copy report").click()
    report = seen.page.locator("#report-text")
    report.wait_for()
    text = report.input_value()
    assert "rtdenoise" in text
    assert "Monitor of A" in text
    assert url.rstrip("/").rpartition("/")[2] not in text


def used_s(thread: int) -> float:
    """Processor time of a thread."""
    return int(Path(f"/proc/{thread}/schedstat").read_text().split()[0]) / 1e9


@pytest.mark.steady
def test_the_server_takes_little_with_a_page_open_and_hardly_anything_without(browser, url, capsys):
    seen, percent = Seen(browser, url), []
    thread = seen.state()["thread"]
    for wait in (seen.page.wait_for_timeout, lambda ms: time.sleep(ms / 1000)):
        time.sleep(0.5)
        before, began = used_s(thread), time.monotonic()
        wait(2500)
        percent.append(100 * (used_s(thread) - before) / (time.monotonic() - began))
        if not seen.page.is_closed():
            seen.close()
    with capsys.disabled():
        print(f"\npanel server: {percent[0]:.1f} % of a core with a page open, {percent[1]:.2f} % without")
    assert percent[0] <= OPEN_PERCENT
    assert percent[1] <= CLOSED_PERCENT
