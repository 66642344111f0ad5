"""The control socket is its user's alone, and nothing that a client sends or leaves undone disturbs the others."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command import ENVIRONMENT, ROOT, wait_for
from rtdenoise.cli import ctl
from rtdenoise.cli.listening import listen
from rtdenoise.cli.main import main
from rtdenoise.control import messages, server, sockets
from rtdenoise.control.client import Client
from rtdenoise.control.sockets import ControlError, Listener, NotYet
from rtdenoise.errors import UsageError

pytestmark = pytest.mark.skipif(not sockets.AVAILABLE, reason="no Unix sockets here")
STRANGER = 65_534  # nobody
STATUS = {"state": "running", "input": "a", "output": "b", "failure": None, "latency_ms": 20.0}


class Fake:
    """A session without sound, whose settings are heard as soon as ``flows``."""

    def __init__(self) -> None:
        self.set = {"muted": False, "bypass": False, "strength_db": None, "low_cut_hz": None, "model": "unet"}
        self.flows = True
        self.loading = threading.Event()
        self.loading.set()
        self.between = 0  # so many more times it is asked for nothing

    def _look(self) -> None:
        self.between -= self.between > 0
        if self.between:
            raise NotYet("the devices are just opened")

    def status(self) -> dict:
        self._look()
        return STATUS | self.set

    def apply(self, settings: dict) -> None:
        self._look()
        if "model" in settings:
            assert self.loading.wait(120)
            if settings["model"] == "none such":
                raise UsageError("unknown model")
        for name, value in settings.items():
            self.set[name] = not self.set[name] if value == "toggle" else value

    def heard(self) -> bool:
        return self.flows


@pytest.fixture
def runtime(monkeypatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rtd-") as folder:  # a socket's path must be short
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder) / "rtdenoise"


@pytest.fixture
def session(runtime) -> Iterator[Fake]:
    fake = Fake()
    with server.ControlServer(fake):
        yield fake


def raw(folder: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(os.fspath(next(folder.glob("*.sock"))))
    client.settimeout(120)
    return client


def answers(client: socket.socket) -> list[dict]:
    """All until the server hangs up."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := client.recv(1 << 16):
            data += more
    return [json.loads(text) for text in data.splitlines()]


def as_stranger(code: str, *argv: str) -> str:
    """What another user's process prints."""
    line = [sys.executable, "-I", "-c", f"import os, socket, sys; os.setgroups([]); os.setgid({STRANGER}); "
            f"os.setuid({STRANGER})\n{code}", *argv]  # fmt: skip
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()


def test_folder_and_socket_are_the_users_alone(session, runtime):
    path = next(runtime.glob("*.sock"))
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.name == f"{os.getpid()}.sock"


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_connect(session, runtime):
    runtime.parent.chmod(0o755)  # nothing but our own folder keeps the stranger out
    path = next(runtime.glob("*.sock"))
    code = "s = socket.socket(socket.AF_UNIX)\ntry: s.connect(sys.argv[1]); print('in')\n"
    code += "except PermissionError: print('refused')\n"
    assert as_stranger(code, str(path)) == "refused"
    runtime.chmod(0o755)  # the socket's own mode holds as well
    assert as_stranger(code, str(path)) == "refused"


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can act as another user")
def test_a_folder_that_a_stranger_made_is_not_used(runtime):
    runtime.mkdir()
    os.chown(runtime, STRANGER, STRANGER)
    with pytest.raises(ControlError, match="not a folder of this user alone"):
        Listener()
    with pytest.raises(ControlError, match="not a folder of this user alone"):
        Client()


def test_a_link_is_not_followed(runtime, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    runtime.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="not a folder of this user alone"):
        Listener()


def test_a_folder_of_ours_that_others_could_enter_is_closed(runtime):
    runtime.mkdir(mode=0o755)
    Listener().close()
    assert runtime.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", [None, "", "relative/run", "/nowhere/at/all", "/" + 90 * "x"])
def test_without_a_runtime_folder_it_lies_beside_other_temporary_files(monkeypatch, tmp_path, value):
    monkeypatch.setattr(sockets.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(sockets, "_is_users", lambda place: place == tmp_path / f"rtdenoise-{os.getuid()}")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False) if value is None else monkeypatch.setenv(
        "XDG_RUNTIME_DIR", value
    )
    listener = Listener()
    try:
        assert listener.path.parent == tmp_path / f"rtdenoise-{os.getuid()}"
        assert sockets.sessions() == [listener.path]
    finally:
        listener.close()


def test_sockets_of_killed_processes_are_cleared_away_and_living_ones_kept(runtime):
    code = "from rtdenoise.control.sockets import Listener\nl = Listener(); print(l.path, flush=True); input()"
    start = lambda: subprocess.Popen(
        [sys.executable, "-c", code], env=ENVIRONMENT | os.environ, stdin=-1, stdout=-1, text=True, cwd=ROOT
    )
    dead, alive = start(), start()
    paths = [Path(p.stdout.readline().strip()) for p in (dead, alive)]
    dead.kill()
    dead.wait()
    ours = Listener()
    try:
        assert [p.exists() for p in paths] == [False, True]
        assert sockets.sessions()[0] == ours.path
    finally:
        ours.close()
        alive.communicate("\n")
    assert not ours.path.exists()


def test_a_second_session_of_a_process_gets_a_name_of_its_own(runtime):
    one, two = Listener(), Listener()
    assert one.path != two.path
    assert sockets.pid_of(one.path) == sockets.pid_of(two.path) == str(os.getpid())
    one.close()
    two.close()
    assert list(runtime.iterdir()) == []


def test_settings_are_carried_out_and_answered_with_the_status(session, runtime):
    with Client() as client:
        answer = client.ask("set", {"muted": True, "strength_db": 12})
        assert answer["heard"]
        assert answer["status"]["muted"]
        assert answer["status"]["strength_db"] == 12
        assert answer["status"]["pid"] == os.getpid()
        assert client.ask("set", {"muted": "toggle"})["status"]["muted"] is False
        with pytest.raises(ControlError, match="unknown model"):
            client.ask("set", {"model": "none such"})


def test_without_sound_the_answer_says_that_nothing_is_heard(session, runtime, monkeypatch):
    monkeypatch.setattr(server, "HEARD_S", 0.05)
    session.flows = False
    with Client() as client:
        assert client.ask("set", {"muted": True})["heard"] is False


def test_a_model_that_loads_keeps_nobody_waiting(session, runtime):
    session.loading.clear()
    slow = threading.Thread(target=lambda: Client().ask("set", {"model": "tape"}))
    slow.start()
    with Client() as client:
        assert client.ask("set", {"bypass": True})["status"]["model"] == "unet"
        session.loading.set()
        slow.join(120)
        assert client.ask("status")["status"]["model"] == "tape"


@pytest.mark.parametrize("setting", [{"muted": "toggle"}, {"model": "tape"}])
def test_a_session_between_two_states_is_waited_for_and_obeys_once(session, runtime, setting):
    name = next(iter(setting))
    with Client() as client, Client() as watcher:
        session.between = 5
        answer = client.ask("set", setting)
        assert answer["heard"]
        assert answer["status"][name] == session.set[name] == {"muted": True, "model": "tape"}[name]
        news = watcher.watch()
        next(news)
        session.between = 5
        assert next(news)[name] == session.set[name]


def test_a_session_that_stays_between_is_given_up_with_its_own_words(session, runtime, monkeypatch):
    monkeypatch.setattr(server, "BETWEEN_S", 0.1)
    session.between = 1_000_000
    with Client() as client, pytest.raises(ControlError, match="the devices are just opened"):
        client.ask("set", {"muted": True})
    assert not session.set["muted"]


def test_who_watches_learns_of_what_others_change_at_once_and_not_with_the_next_second(session, runtime, monkeypatch):
    monkeypatch.setattr(server, "NEWS_S", 1_000_000)
    with Client() as watcher, Client() as other:
        news = watcher.watch()
        assert not next(news)["muted"]
        other.ask("set", {"muted": True})
        assert next(news)["muted"]
        session.set["bypass"] = True  # by a key of the view, which tells nobody
        assert next(news)["bypass"]


def test_who_watched_and_went_is_forgotten_without_a_word(runtime, caplog):
    fake = Fake()
    with server.ControlServer(fake) as running:
        with Client() as watcher:
            next(watcher.watch())
            assert len(running._watchers) == 1
        with Client() as other:
            for muted in 10 * [True, False]:
                other.ask("set", {"muted": muted})
        wait_for(lambda: not running._watchers)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello", "no JSON"),
        (b"[1]", "JSON object"),
        (b"[" * 9000, "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"{}", "version 1"),
        (b'{"v": 2, "do": "status"}', "version 1"),
        (b'{"v": 1, "do": "quit"}', "one of"),
        (b'{"v": 1, "do": ["set"]}', "one of"),
        (b'{"v": 1, "do": "set"}', "at least one"),
        (b'{"v": 1, "do": "set", "set": {"rate": 8000}}', "cannot be set"),
        (b'{"v": 1, "do": "set", "set": {"muted": 1}}', "muted is"),
        (b'{"v": 1, "do": "set", "set": {"strength_db": -1}}', "strength_db is"),
        (b'{"v": 1, "do": "set", "set": {"strength_db": NaN}}', "strength_db is"),
        (b'{"v": 1, "do": "set", "set": {"low_cut_hz": 40}}', "low_cut_hz is a number from 60 to 120"),
        (b'{"v": 1, "do": "set", "set": {"strength_db": true}}', "strength_db is"),
        (b'{"v": 1, "do": "set", "set": {"strength_db": 1' + 400 * b"0" + b"}}", "strength_db is"),
        (b'{"v": 1, "do": "set", "set": {"model": ""}}', "model is"),
        (b'{"v": 1, "do": "set", "set": {"model": "a\\u0000b"}}', "model is"),
        (b'{"v": 1, "do": "status", "set": {"muted": true}}', "belongs to"),
        (b'{"v": 1, "do": "set", "set": {"ears": {}}}', "ears is an object"),
        (b'{"v": 1, "do": "set", "set": {"ears": {"muted": true}, "muted": true}}', "stands alone"),
        (b'{"v": 1, "do": "set", "set": {"ears": {"ears": {"muted": true}}}}', "ears is an object"),
        (b'{"v": 1, "do": "set", "set": {"ears": {"strength_db": -1}}}', "strength_db is"),
    ],
)
def test_what_is_no_request_is_answered_in_words_and_changes_nothing(session, runtime, line, said):
    with raw(runtime) as client:
        client.sendall(line + b"\n" + messages.request("status", "next"))
        client.shutdown(socket.SHUT_WR)
        wrong, good = answers(client)
    assert wrong["ok"] is False
    assert said in wrong["error"]
    assert good["id"] == "next"
    assert good["status"] == STATUS | Fake().set | {"pid": os.getpid(), "version": good["status"]["version"]}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_of_any_kind_ends_in_answers_or_a_hang_up(session, runtime, lines):
    with raw(runtime) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(b"\n".join(lines) + b"\n")
            client.shutdown(socket.SHUT_WR)
        assert not any(answer["ok"] for answer in answers(client))
    with Client() as client:
        assert client.ask("status")["ok"]


def test_a_message_of_ten_megabytes_is_cut_off_and_never_kept(session, runtime):
    with raw(runtime) as client:
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(160):
                sent += client.send(b"x" * 65_536)
        assert sent < 2_000_000
        assert [a["error"] for a in answers(client)] in ([], ["a message has at most 16384 bytes"])
    with Client() as client:
        assert client.ask("status")["ok"]


def test_who_does_not_read_is_dropped_and_delays_nobody(session, runtime, monkeypatch):
    monkeypatch.setattr(server, "SLOW_S", 3.0)
    with raw(runtime) as deaf, Client() as other:
        deaf.settimeout(0.1)
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(100_000):
                sent += deaf.send(messages.request("status"))
        assert sent < 4_000_000  # the server has stopped to read
        gone = select.poll()
        gone.register(deaf, select.POLLHUP)
        assert other.ask("set", {"muted": True})["heard"]
        assert not gone.poll(0)  # It was still waited for then.
        assert gone.poll(120_000)


def test_a_client_that_says_nothing_makes_room_for_one_that_does(session, runtime):
    idle = [raw(runtime) for _ in range(3 * server.MOST_CLIENTS)]
    with Client() as client:
        for _ in range(20):
            assert client.ask("status")["ok"]
    assert idle[0].recv(1) == b""
    for one in idle:
        one.close()
    with Client() as client:
        assert client.ask("status")["ok"]


def test_the_socket_goes_with_the_session_whatever_clients_do(runtime):
    with server.ControlServer(Fake()):
        held = [raw(runtime) for _ in range(5)]
        held[0].sendall(b'{"v": 1,')
        held[1].sendall(messages.request("watch"))
        wait_for(lambda: len(sockets.sessions()) == 1)
    assert list(runtime.iterdir()) == []
    for client in held:
        client.close()
    assert not [t for t in threading.enumerate() if t.name == "rtdenoise-control"]


def test_ctl_speaks_to_the_session(session, runtime, capfd):
    done = []
    switches = "mute", "toggle mute", "bypass", "bypass off", "toggle bypass"
    for line in (*switches, "strength 7.5", "model tape", "low-cut 80"):
        assert main(["ctl", *line.split()]) == 0
        done.append(dict(session.set))
    assert [d["muted"] for d in done[:2]] == [True, False]
    assert [d["bypass"] for d in done[2:5]] == [True, False, True]
    assert done[5]["strength_db"] == 7.5
    assert done[6]["model"] == "tape"
    assert done[7]["low_cut_hz"] == 80
    assert main(["ctl", "strength", "none"]) == 0
    assert main(["ctl", "low-cut", "off"]) == 0
    assert (session.set["strength_db"], session.set["low_cut_hz"]) == (None, None)
    capfd.readouterr()
    assert main(["ctl", "status"]) == 0
    shown = capfd.readouterr().out
    assert f"{os.getpid()}: a -> b: bypass, no limit, tape, latency 20.0 ms, running" in shown
    assert main(["ctl", "sessions", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["model"] == "tape"


@pytest.mark.parametrize(
    "line",
    [
        *("mute now", "bypass maybe", "toggle", "toggle strength", "strength", "strength -1", "strength loud"),
        *("model", "nonsense", ""),
    ],
)
def test_ctl_refuses_what_makes_no_sense(session, runtime, line, capfd):
    try:
        code = main(["ctl", *line.split()])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert session.set == Fake().set


def test_ctl_says_in_one_line_that_nobody_runs(runtime, capfd):
    for line in (["mute"], ["status"], ["watch"], ["sessions"]):
        assert main(["ctl", *line]) == 1
        said = capfd.readouterr()
        assert said.out == ""
        assert len(said.err.splitlines()) == 1
        assert "no live session is running; start one with" in said.err
    assert main(["ctl", "mute", "--session", "1"]) == 1
    assert "process 1 runs no session" in capfd.readouterr().err


def test_without_such_sockets_ctl_says_so_and_a_session_runs_without_a_word(runtime, capfd, monkeypatch):
    monkeypatch.setattr(sockets, "AVAILABLE", False)  # as on Windows
    for line in (["mute"], ["sessions"]):
        assert main(["ctl", *line]) == 1
        said = capfd.readouterr().err
        assert "control of a running session needs Unix sockets, which this system lacks" in said
        assert said.count("\n") == 1
    with contextlib.ExitStack() as stack:
        assert listen(Fake(), stack) is None
    assert capfd.readouterr().err == ""


def test_ctl_gives_up_on_a_session_that_is_stopped(runtime, capfd, monkeypatch):
    monkeypatch.setattr("rtdenoise.control.client.ANSWER_S", 0.2)
    listener = Listener()  # listens, and never answers
    try:
        assert main(["ctl", "mute"]) == 1
        assert f"session {os.getpid()} does not answer" in capfd.readouterr().err
    finally:
        listener.close()


def test_ctl_watch_ends_with_the_session_and_by_a_signal(runtime):
    code = [sys.executable, "-m", "rtdenoise", "ctl", "watch", "--json"]
    with server.ControlServer(Fake()):
        watches = [subprocess.Popen(code, env=ENVIRONMENT | os.environ, stdout=-1, text=True) for _ in range(2)]
        assert all(json.loads(w.stdout.readline())["model"] == "unet" for w in watches)
        watches[0].send_signal(signal.SIGINT)
        assert watches[0].wait(120) == 130
    assert watches[1].wait(120) == 0


def test_ctl_loads_no_audio_library():
    code = "import sys; from rtdenoise.cli.main import main; main(['ctl', 'status'])\n"
    code += "print([n for n in ('numpy', 'numba', 'onnxruntime', 'rich', 'asyncio') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_action_is_explained():
    assert all(name in ctl.EPILOG for name in ctl.ACTIONS)
