"""`rtdenoise serve`: what comes back is what a `Denoiser` gives, and nobody can make it worse for others."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import COMMAND, DEADLINE_S, ENVIRONMENT, identity_model
from conftest import modulated_noise
from rtdenoise import Denoiser, UsageError
from rtdenoise.cli.main import main
from rtdenoise.io.pcm import decode, encode
from rtdenoise.model.registry import load_model

aiohttp = pytest.importorskip("aiohttp", reason="pip install 'rtdenoise[serve]'")
pytest.importorskip("prometheus_client", reason="pip install 'rtdenoise[serve]'")

from rtdenoise.serving.access import Access, read_token  # noqa: E402
from rtdenoise.serving.door import SESSION_BYTES, STRANGER_BYTES, TURN_S  # noqa: E402
from rtdenoise.serving.limits import BURST_S, LEAST_S, Limits, Pace  # noqa: E402
from rtdenoise.serving.server import Server  # noqa: E402
from rtdenoise_bench.measure.serving import capacity  # noqa: E402
from rtdenoise_bench.testbed import strangers  # noqa: E402

SIGNAL = modulated_noise(np.random.default_rng(5), 16_000)[:, 0]
FAST = Limits(speed=1000)
TOKEN = "0123456789abcdef" * 2


def run(task):
    return asyncio.run(asyncio.wait_for(task, 2 * DEADLINE_S))


@contextlib.asynccontextmanager
async def serving(limits: Limits = FAST, **options):
    """A server with the identity model, and a client's session."""
    async with Server(load_model(identity_model()), limits, **options) as server, aiohttp.ClientSession() as http:
        yield server, http


@contextlib.asynccontextmanager
async def stream(server, http, **wanted):
    """A connection that has been admitted."""
    async with http.ws_connect(server.url) as ws:
        await ws.send_json({"type": "hello", "protocol": 1, "rate": 16_000} | wanted)
        ws.hello = await ws.receive_json()
        yield ws


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@settings(max_examples=20)
@given(
    st.lists(st.integers(0, len(SIGNAL)), max_size=6),
    st.sampled_from([8_000, 11_025, 16_000, 48_000, 192_000]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(["s16le", "f32le"]),
    st.sampled_from(["normal", "low"]),
)
def test_any_messages_give_what_a_denoiser_gives(cuts, rate, channels, form, latency):
    encoding = {"s16le": "PCM_16", "f32le": "FLOAT"}[form]
    signal_ = np.stack([np.roll(SIGNAL, 500 * c) for c in range(channels)], 1)
    heard = decode(encode(signal_.reshape(-1), encoding), encoding).reshape(-1, channels)
    whole = Denoiser(identity_model(), rate, channels, 12, latency)
    expected = np.concatenate([whole.process(heard), whole.flush()])

    async def filtered():
        async with serving() as (server, http):
            wanted = {"rate": rate, "channels": channels, "format": form, "latency": latency, "strength_db": 12}
            async with stream(server, http, **wanted) as ws:
                assert ws.hello["latency_samples"] == whole.latency_samples
                for _ in range(2):  # after a flush, the next signal begins as new
                    answers = []
                    for part in np.split(signal_, sorted(cuts)):
                        await ws.send_bytes(encode(part.reshape(-1), encoding))
                        answers.append(await ws.receive_bytes())
                        assert len(answers[-1]) == part.size * (2 if form == "s16le" else 4)
                    await ws.send_json({"type": "flush"})
                    answers.append(await ws.receive_bytes())
                    got = decode(b"".join(answers), encoding).reshape(-1, channels)
                    np.testing.assert_allclose(got, expected, atol=2e-5 if form == "f32le" else 2**-15 + 2e-5)

    run(filtered())


def test_settings_change_while_sound_flows_and_all_answers_come_in_order():
    async def changed():
        async with serving() as (server, http), stream(server, http) as ws:
            await ws.send_bytes(bytes(640))
            await ws.send_json({"type": "set", "strength_db": 6, "bypass": True})
            await ws.send_bytes(bytes(320))
            await ws.send_json({"type": "set", "low_cut_hz": 80, "strength_db": None})
            answers = [await ws.receive() for _ in range(4)]
            assert [a.type for a in answers[::2]] == [aiohttp.WSMsgType.BINARY] * 2
            assert [len(a.data) for a in answers[::2]] == [640, 320]
            said = [json.loads(a.data) for a in answers[1::2]]
            assert said[0] == {"type": "set", "strength_db": 6, "bypass": True, "low_cut_hz": None}
            assert said[1] == {"type": "set", "strength_db": None, "bypass": True, "low_cut_hz": 80}

    run(changed())


HELLO = '{"type": "hello", "protocol": 1, "rate": 8000'


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b"\0\0"], "bad-hello"),
        ([""], "bad-message"),
        (["{}"], "bad-message"),
        (["[[" * 2_000], "bad-message"),
        ([json.dumps({"type": "hello", "x": "y" * 5_000})], "bad-message"),
        (['{"type": "set", "bypass": true}'], "bad-hello"),
        (['{"type": "hello", "rate": 8000}'], "bad-protocol"),
        (['{"type": "hello", "protocol": 2, "rate": 8000}'], "bad-protocol"),
        (['{"type": "hello", "protocol": 1}'], "bad-hello"),
        ([HELLO + ', "key": "unet"}'], "bad-hello"),
        ([HELLO + ', "format": "mp3"}'], "bad-hello"),
        ([HELLO + ', "format": []}'], "bad-hello"),
        ([HELLO + ', "latency": 3}'], "bad-hello"),
        ([HELLO + ', "channels": 9}'], "out-of-range"),
        ([HELLO + ', "channels": true}'], "out-of-range"),
        ([HELLO + ', "strength_db": NaN}'], "out-of-range"),
        ([HELLO + ', "strength_db": "12"}'], "out-of-range"),
        ([HELLO + ', "low_cut_hz": 5}'], "out-of-range"),
        ([HELLO + ', "bypass": null}'], "out-of-range"),
        (['{"type": "hello", "protocol": 1, "rate": 7999}'], "out-of-range"),
        (['{"type": "hello", "protocol": 1, "rate": 16000.5}'], "out-of-range"),
        (['{"type": "hello", "protocol": 1, "rate": 1e400}'], "out-of-range"),
        ([HELLO + "}", b"\0\0\0"], "partial-sample"),
        ([HELLO + "}", "sound"], "bad-message"),
        ([HELLO + "}", '{"type": "set"}'], "bad-message"),
        ([HELLO + "}", '{"type": "set", "model": "unet"}'], "bad-message"),
        ([HELLO + "}", '{"type": "set", "strength_db": -1}'], "out-of-range"),
        ([HELLO + "}", '{"type": "hello"}'], "bad-message"),
    ],
)
def test_what_makes_no_sense_is_answered_by_one_error_and_the_end(messages, code):
    async def asked():
        async with serving() as (server, http), http.ws_connect(server.url) as ws:
            for message in messages:
                await (ws.send_bytes(message) if isinstance(message, bytes) else ws.send_str(message))
            answers = [m async for m in ws]
            error = json.loads(answers[-1].data)
            assert (error["type"], error["code"]) == ("error", code)
            assert error["message"]
            assert len(answers) == len(messages)
            assert ws.close_code in (1007, 1008)
            await until(lambda: server.service.taken == 0)

    run(asked())


def test_samples_that_are_no_numbers_are_taken_as_zero_and_counted():
    async def sent():
        async with serving() as (server, http), stream(server, http, format="f32le") as ws:
            await ws.send_bytes(np.array([np.nan, np.inf, 1e30] * 500, "<f4").tobytes())
            assert np.isfinite(np.frombuffer(await ws.receive_bytes(), "<f4")).all()
            page = await (await http.get(f"http://127.0.0.1:{server.port}/metrics")).text()
            assert "rtdenoise_faulty_samples_total 1500.0" in page

    run(sent())


def test_places_are_counted_by_channels_and_free_again_when_a_client_has_gone():
    async def asked():
        async with serving(Limits(connections=3)) as (server, http):
            async with stream(server, http, channels=2), stream(server, http):
                async with stream(server, http) as refused:
                    assert refused.hello["code"] == "busy"
                    assert (await refused.receive()).data == 1013
                state = await (await http.get(f"http://127.0.0.1:{server.port}/healthz")).json()
                assert state == {"status": "ok", "places": 3, "free": 0}
            await until(lambda: server.service.taken == 0)
            async with stream(server, http, channels=3) as ws:
                assert ws.hello["type"] == "hello"

    run(asked())


def test_a_message_that_is_too_long_ends_only_its_own_connection():
    async def sent():
        limits = Limits(message_bytes=10_000)
        async with serving(limits) as (server, http), stream(server, http) as good, stream(server, http) as bad:
            assert bad.hello["limits"]["message_bytes"] == 10_000
            with contextlib.suppress(ConnectionError):
                await bad.send_bytes(bytes(20_000))
            assert (await bad.receive()).type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            )
            await good.send_bytes(bytes(10_000))
            assert len(await good.receive_bytes()) == 10_000

    run(sent())


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=60), st.floats(1, 10))
def test_no_client_exceeds_its_speed_for_longer_than_the_burst(steps, speed):
    now = 0.0
    pace = Pace(speed, lambda: now)
    worked_s = 0.0
    for pause_s, sound_s in steps:
        now += pause_s
        now += pace.wait_s(sound_s)
        worked_s += max(sound_s, LEAST_S)
        assert worked_s <= (now + BURST_S) * speed + 1e-6


def test_a_client_in_real_time_never_waits_and_never_hurries_also_after_a_stall():
    now = 0.0
    pace = Pace(1.0, lambda: now)
    for _ in range(1_000):
        now += 0.02
        assert pace.wait_s(0.02) == 0
        assert not pace.hurries
    now += 2.0
    for _ in range(100):
        assert pace.wait_s(0.02) == 0
        assert not pace.hurries
    for _ in range(100):
        pace.wait_s(0.02)
    assert pace.hurries


def test_a_fast_client_is_slowed_down_and_loses_nothing():
    async def sent():
        async with serving(Limits(speed=8)) as (server, http), stream(server, http) as ws:
            began = asyncio.get_running_loop().time()
            for _ in range(48):
                await ws.send_bytes(bytes(32_000))  # 48 s of sound: 6 s at this speed, of which 5 are the burst
            for _ in range(48):
                assert len(await ws.receive_bytes()) == 32_000
            assert asyncio.get_running_loop().time() - began >= 0.9

    run(sent())


@pytest.mark.parametrize("said", [b"", strangers.request()[:30], strangers.request()], ids=["nothing", "half", "hello"])
def test_who_says_nothing_is_let_go(said):
    async def waited():
        async with serving(Limits(hello_s=0.3)) as (server, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(said)
            await reader.read()
            writer.close()
            await until(lambda: server.connections == 0)

    run(waited())


def test_who_sends_no_more_sound_is_told_and_let_go():
    async def waited():
        async with serving(Limits(idle_s=0.3)) as (server, http), stream(server, http) as ws:
            assert (await ws.receive_json())["code"] == "idle"
            await until(lambda: server.service.taken == 0)

    run(waited())


def test_pings_keep_no_connection_that_sends_no_sound():
    async def pinged():
        async with serving(Limits(idle_s=0.5)) as (server, http), stream(server, http) as ws:

            async def ping():
                with contextlib.suppress(ConnectionError):
                    while not ws.closed:
                        await ws.ping()
                        await asyncio.sleep(0.05)

            pinging = asyncio.create_task(ping())
            assert (await ws.receive_json())["code"] == "idle"
            pinging.cancel()

    run(pinged())


def test_pings_before_a_hello_are_refused():
    async def pinged():
        async with serving() as (server, http), http.ws_connect(server.url) as ws:
            await ws.ping()
            assert (await ws.receive_json())["code"] == "bad-hello"

    run(pinged())


def test_strangers_are_worked_for_one_after_the_other():
    async def crowded():
        async with serving() as (server, _):
            began, turns = time.monotonic(), []

            async def turn():
                await server._door.turn()
                turns.append(time.monotonic())

            await asyncio.gather(*(turn() for _ in range(40)))
            assert all(at - began >= k * TURN_S for k, at in enumerate(turns))

    run(crowded())


def test_who_does_not_read_is_read_no_more_and_then_let_go():
    async def stalled():
        limits = Limits(speed=1000, stall_s=0.5)
        async with serving(limits) as (server, http), stream(server, http) as good:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.transport.pause_reading()
            writer.write(strangers.request() + strangers.frame(strangers.TEXT, strangers.HELLO))

            async def send_on():  # at most 320 MB: more than anybody may keep for it
                for _ in range(10_000):
                    writer.write(strangers.frame(strangers.BINARY, bytes(32_000)))
                    await writer.drain()

            with pytest.raises(ConnectionError):
                await send_on()
            writer.transport.abort()
            await until(lambda: server.service.taken == 1)
            await good.send_bytes(bytes(640))
            assert len(await good.receive_bytes()) == 640

    run(stalled())


def ends(server) -> float:
    """How many sessions have ended."""
    counts = re.findall(rb"^rtdenoise_sessions_total.* (.+)$", server.service.metrics.page(), re.MULTILINE)
    return sum(map(float, counts))


def stored(kind: type) -> int:
    """By type alone: a weak proxy asks what it stands for, which may be gone."""
    return sum(kind in type(one).__mro__ for one in gc.get_objects())


def test_of_a_storm_of_messages_the_server_stores_no_more_than_it_read_at_once():
    async def stormed():
        async with serving(Limits()) as (server, _):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(strangers.request() + strangers.frame(strangers.TEXT, strangers.HELLO))
            writer.write(strangers.frame(strangers.BINARY, b"") * 20_000)
            await until(lambda: server.service.taken == 1)
            most = 0
            for _ in range(100):
                most = max(most, stored(aiohttp.WSMessage))
                await asyncio.sleep(0.005)
            assert 0 < most <= (STRANGER_BYTES + SESSION_BYTES) // len(strangers.frame(strangers.BINARY, b""))
            writer.transport.abort()

    run(stormed())


@pytest.mark.parametrize(
    "said",
    [
        strangers.frame(strangers.TEXT, b"{}"),
        strangers.frame(strangers.TEXT, b"\xff"),
        strangers.frame(strangers.PING, b"") * 100,
        strangers.frame(strangers.BINARY, b"x", says=1 << 62),
        strangers.frame(strangers.TEXT, strangers.HELLO) + strangers.frame(strangers.BINARY, b"abc"),
        strangers.frame(strangers.TEXT, strangers.HELLO),
    ],
    ids=["no hello", "no text", "pings", "oversized", "no sample", "lost"],
)
def test_what_a_connection_took_is_free_without_the_garbage_collector(said):
    async def ended():
        async with serving() as (server, _):
            for k in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(strangers.request() + said)
                await until(lambda k=k: server.service.taken or ends(server) > k)
                writer.transport.abort()
                await until(lambda k=k: ends(server) > k)
            await until(lambda: not stored(aiohttp.web.WebSocketResponse))

    gc.collect()
    gc.disable()
    try:
        run(ended())
    finally:
        gc.enable()


def test_of_too_many_strangers_the_oldest_goes_and_a_session_never():
    async def crowded():
        async with serving(Limits(strangers=10)) as (server, http), stream(server, http) as good:
            silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(40)]
            assert (await silent[0][0].read()) == b""
            async with stream(server, http) as late:
                assert late.hello["type"] == "hello"
            await good.send_bytes(bytes(640))
            assert len(await good.receive_bytes()) == 640
            assert server.connections <= 13
            for _, writer in silent:
                writer.transport.abort()

    run(crowded())


def test_two_hundred_that_misbehave_change_nothing_for_others():
    parts = np.array_split(SIGNAL, 40)
    whole = Denoiser(identity_model(), 16_000)
    expected = np.concatenate([whole.process(SIGNAL), whole.flush()])

    async def session(server, http):
        async with stream(server, http, format="f32le") as ws:
            await until(lambda: server.connections >= 100)  # A place is sure only for who came before the crowd.
            answers = []
            for part in parts:
                await ws.send_bytes(part.tobytes())
                answers.append(await ws.receive_bytes())
            await ws.send_json({"type": "flush"})
            answers.append(await ws.receive_bytes())
        return np.frombuffer(b"".join(answers), "<f4")

    async def crowded():
        async with serving(Limits(connections=12, hello_s=30)) as (server, http):
            sessions = asyncio.gather(*(session(server, http) for _ in range(4)))
            await until(lambda: server.service.taken == 4)
            crowd = asyncio.create_task(strangers.crowd(server.port, 200))
            for result in await sessions:
                np.testing.assert_allclose(result, expected, atol=1e-5)
            crowd.cancel()
            await asyncio.gather(crowd, return_exceptions=True)
            await until(lambda: server.connections == 0)
            assert server.service.taken == 0

    run(crowded())


def test_metrics_tell_what_happened():
    async def looked():
        async with serving() as (server, http):
            async with stream(server, http, rate=8_000, channels=2) as ws:
                await ws.send_bytes(bytes(32_000))
                await ws.receive_bytes()
            async with stream(server, http, rate=1) as ws:
                assert ws.hello["code"] == "out-of-range"
            await until(lambda: not server.service.sessions)
            answer = await http.get(f"http://127.0.0.1:{server.port}/metrics")
            assert answer.content_type == "text/plain"
            page = await answer.text()
            for line in (
                "rtdenoise_sound_seconds_total 2.0",
                "rtdenoise_answer_seconds_count 1.0",
                'rtdenoise_sessions_total{end="left"} 1.0',
                'rtdenoise_sessions_total{end="out-of-range"} 1.0',
                "rtdenoise_places_taken 0.0",
            ):
                assert line in page.splitlines()

    run(looked())


def test_with_a_token_only_who_sends_it_is_let_in_but_health_is_for_all():
    async def asked():
        async with serving(access=Access(TOKEN)) as (server, http):
            base = f"http://127.0.0.1:{server.port}"
            for headers in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer x"}, {"Authorization": "Bearer é"}):
                assert (await http.get(f"{base}/metrics", headers=headers)).status == 401
                with pytest.raises(aiohttp.WSServerHandshakeError):
                    await http.ws_connect(server.url, headers=headers)
            assert (await http.get(f"{base}/healthz")).status == 200
            given = {"Authorization": f"Bearer {TOKEN}", "Host": "filter.example", "Origin": "http://app.example"}
            async with http.ws_connect(server.url, headers=given) as ws:
                await ws.send_str(HELLO + "}")
                assert (await ws.receive_json())["type"] == "hello"

    run(asked())


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({"Host": "127.0.0.1:8765"}, True),
        ({"Host": "localhost:8765"}, True),
        ({"Host": "LOCALHOST"}, True),
        ({"Host": "localhost:8765", "Origin": "http://localhost:8765"}, True),
        ({"Host": "evil.example:8765", "Origin": "http://evil.example:8765"}, False),
        ({"Host": "localhost:8765", "Origin": "http://localhost:3000"}, False),
        ({"Host": "localhost:8765", "Origin": "https://evil.example"}, False),
        ({"Host": "localhost:8765", "Origin": "null"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": ""}, False),
        ({}, False),
    ],
)
def test_without_a_token_no_page_of_a_browser_is_let_in(headers, admitted):
    assert Access().admits(headers) is admitted


@pytest.mark.parametrize(
    "content", [b"", b"short\n", b"a token with spaces in it", b"one-line-is-all\nthat-it-may-have", b"\xff" * 40]
)
def test_a_file_without_a_token_is_refused(tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(UsageError, match="token"):
        read_token(tmp_path / "token")
    with pytest.raises(UsageError, match="No such file"):
        read_token(tmp_path / "nothing")


def test_a_token_is_read_without_its_line_end(tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN


def test_the_command_listens_elsewhere_only_with_a_token(capfd):
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "--token-file" in capfd.readouterr().err


def test_a_port_that_is_taken_is_said_in_one_line(capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1]), "--model", identity_model()]) == 1
    assert "choose another --port" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_goodbye_to_its_clients(number):
    line = [*COMMAND, "serve", "--port", "0", "--model", identity_model()]
    process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    url = re.search(r"ws://\S+", process.stderr.readline())[0]

    async def talked():
        async with aiohttp.ClientSession() as http, http.ws_connect(url) as ws:
            await ws.send_str(HELLO + "}")
            assert (await ws.receive_json())["type"] == "hello"
            process.send_signal(number)
            assert (await ws.receive()).data == 1001

    run(talked())
    assert process.wait(DEADLINE_S) == 0
    assert process.stderr.read() == ""


def test_a_server_leaves_nothing_behind():
    before = set(threading.enumerate())

    async def served():
        async with serving() as (server, http), stream(server, http) as ws:
            await ws.send_bytes(bytes(640))
            await ws.receive_bytes()
        return server.port

    port = run(served())
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE_S)
    assert not set(threading.enumerate()) - before
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port))


def test_the_load_is_measured_with_all_answers():
    (load, result) = capacity(identity_model(), 8_000, 20, 2, 1)
    assert "p50" in load.what + load.measured
    assert re.fullmatch(r"[01]", result.measured.strip())
