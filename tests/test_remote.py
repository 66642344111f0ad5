"""Files in buckets and on web servers: the same bytes as from a disk, whole or not at all, errors in one line.

Needs an S3 server of its own, which `make test-remote` installs.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from command import ENVIRONMENT, call, start, voice, wait_for, write
from rtdenoise import AudioFileError, RtdenoiseError, UsageError, denoise_file, denoise_folder
from rtdenoise.io import remote

fsspec = pytest.importorskip("fsspec", reason="pip install 'rtdenoise[remote]'")
pytest.importorskip("aiohttp", reason="pip install 'rtdenoise[remote]'")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    """An S3 server on loopback."""
    pytest.importorskip("s3fs", reason="pip install 'rtdenoise[remote]'")
    pytest.importorskip("moto", reason="make test-remote")
    code = (
        "import os, sys, moto.server\n"
        "server = moto.server.ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n"
        "server.start()\n"
        "print('http://{}:{}'.format(*server.get_host_and_port()), flush=True)\n"
        "sys.stdin.read()\n"
        "os._exit(0)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
    yield process.stdout.readline().strip()
    process.communicate("")


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    """A store with the buckets ``recordings`` and ``cleaned``; what is in the first is below ``tmp_path/in`` too."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in keys.items() | {("AWS_ENDPOINT_URL", server), ("AWS_EC2_METADATA_DISABLED", "true")}:
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    store = fsspec.filesystem("s3", use_listings_cache=False)
    for name in ("recordings", "cleaned"):
        if store.exists(name):
            store.rm(name, recursive=True)
        store.mkdir(name)
    for k, name in enumerate(("a.wav", "deep/b c#?%41.wav", "deep/er/c.flac")):
        store.put_file(str(write(tmp_path / "in" / name, voice(3_000 * (k + 1), seed=k))), f"recordings/{name}")
    yield store
    fsspec.filesystem("s3").clear_instance_cache()


def names(store, place: str) -> list[str]:
    return sorted(path.removeprefix(f"{place}/") for path in store.find(place))


def test_one_file_goes_from_bucket_to_bucket(bucket, tmp_path, capfd):
    code, out, _ = call(capfd, "--in", "s3://recordings/a.wav", "--out", "s3://cleaned/x/a.flac", "--json")
    told = json.loads(out)
    assert (code, told["in"], told["out"]) == (0, "s3://recordings/a.wav", "s3://cleaned/x/a.flac")
    call(capfd, "--in", tmp_path / "in/a.wav", "--out", tmp_path / "a.flac")
    assert bucket.cat("cleaned/x/a.flac") == (tmp_path / "a.flac").read_bytes()
    assert names(bucket, "cleaned") == ["x/a.flac"]


@pytest.mark.parametrize(
    "cluster", [[], ["--jobs", "2"], ["--cluster", "dask://local:2"]], ids=["here", "jobs", "dask"]
)
def test_a_prefix_is_filtered_into_another_and_done_once(bucket, tmp_path, capfd, cluster):
    if cluster[:1] == ["--cluster"]:
        pytest.importorskip("distributed")
    line = "--in", "s3://recordings", "--out", "s3://cleaned/all", *cluster
    code, _, said = call(capfd, *line)
    assert (code, "3 filtered" in said) == (0, True), said
    call(capfd, "--in", tmp_path / "in", "--out", tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.*"):
        assert bucket.cat(f"cleaned/all/{path.relative_to(tmp_path / 'out')}") == path.read_bytes()
    assert len(names(bucket, "cleaned")) == 3
    assert "3 already done" in call(capfd, *line)[2]


def test_a_prefix_comes_to_a_folder_and_a_folder_goes_to_a_prefix(bucket, tmp_path):
    assert len(denoise_folder("s3://recordings/deep", tmp_path / "deep", strength_db=0)) == 2
    assert (tmp_path / "deep/er/c.flac").is_file()
    denoise_folder(tmp_path / "deep", "s3://cleaned/deep", strength_db=0)
    assert names(bucket, "cleaned/deep") == ["b c#?%41.wav", "er/c.flac"]


def test_a_manifest_names_urls(bucket, tmp_path, capfd):
    rows = [
        {"audio_filepath": path} for path in ("s3://recordings/a.wav", "in/deep/er/c.flac", "s3://recordings/no.wav")
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = "--manifest", tmp_path / "list.jsonl", "--out", "s3://cleaned/m", "--report", tmp_path / "report.jsonl"
    code, _, said = call(capfd, *line)
    assert (code, "2 filtered, 1 failed" in said) == (1, True), said
    found = {row["line"]: row for row in map(json.loads, (tmp_path / "report.jsonl").read_text().splitlines())}
    assert found[1]["out"] == "s3://cleaned/m/recordings/a.wav"
    assert "No such file" in found[3]["error"]
    assert names(bucket, "cleaned/m") == ["in/deep/er/c.flac", "recordings/a.wav"]
    assert "1 failed" in call(capfd, *line)[2]  # The others are done.


def test_names_that_fall_together_or_lead_elsewhere_are_errors_of_their_own(bucket, tmp_path, capfd):
    data = bucket.cat("recordings/a.wav")
    for name in ("twice//x.wav", "twice/x.wav", "twice/y//../x.wav", "twice/../../z.wav"):
        bucket.pipe_file(f"recordings/{name}", data)
    code, _, said = call(capfd, "--in", "s3://recordings/twice", "--out", tmp_path / "out")
    assert code == 1
    assert said.count("would have the same output") == 2
    assert said.count("outside the output folder") == 1
    assert [path.name for path in (tmp_path / "out").rglob("*.wav")] == ["x.wav"]
    with pytest.raises(UsageError, match="outside"):
        remote.name_below("s3://recordings/../../x.wav")


def test_training_learns_from_a_bucket_as_from_a_folder(bucket, tmp_path):
    """Of which a manifest may be a part too."""
    pytest.importorskip("soxr", reason="pip install 'rtdenoise[train]'")
    from rtdenoise.training.data.clips import open_bank

    for k, name in enumerate(("a.wav", "b.wav")):
        path = write(tmp_path / "speech" / name, voice(16_000, seed=k), 16_000)
        bucket.put_file(str(path), f"recordings/speech/{name}")
    bucket.pipe_file("recordings/speech/list.jsonl", b'{"audio_filepath": "b.wav", "offset": 0.5}\n')
    places = [tmp_path / "speech"], ["s3://recordings/speech"], ["s3://recordings/speech/list.jsonl"]
    here, there, listed = (open_bank(each, "speech", 16_000, tmp_path / "cache").samples for each in places)
    assert here.tolist() == there.tolist()
    assert listed.tolist() == here[24_000:].tolist()


def refused(capfd, *line: object, code: int = 1) -> str:
    """What a failing request says, which is one line."""
    got, out, said = call(capfd, *line)
    assert (got, out, said.count("\n")) == (code, "", 1), said
    return said


def test_what_a_store_refuses_is_said_in_one_line(bucket, server, tmp_path, capfd, monkeypatch):
    there, here = "s3://recordings/a.wav", tmp_path / "in/a.wav"
    assert "not there" in refused(capfd, "--in", "s3://recordings/no.wav", "--out", tmp_path / "x.wav")
    assert "no such bucket" in refused(capfd, "--in", here, "--out", "s3://no-such-bucket/x.wav")
    assert "input itself" in refused(capfd, "--in", there, "--out", there, code=2)
    assert "only read from" in refused(capfd, "--in", here, "--out", f"{server}/x.wav", code=2)
    assert "do not list" in refused(capfd, "--in", f"{server}/folder", "--out", tmp_path / "x", code=2)
    assert "exists" in refused(capfd, here, there, code=2)
    assert "device" in refused(capfd, "--in", "mic", "--out", there, code=2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    assert "check the address and the network" in refused(capfd, "--in", there, "--out", tmp_path / "x.wav")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    fsspec.filesystem("s3").clear_instance_cache()
    assert "no credentials" in refused(capfd, "--in", there, "--out", tmp_path / "x.wav")
    assert not list(tmp_path.glob("*.wav"))


def test_a_bucket_that_cannot_be_written_to_is_an_error_of_each_file(bucket, tmp_path, monkeypatch):
    class ReadOnly(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # which says that the body may come

        def log_message(self, *_):
            pass

        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            text = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):  # a listing of nothing
            text = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    with serving(ReadOnly) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        fsspec.filesystem("s3").clear_instance_cache()
        outcomes = denoise_folder(tmp_path / "in", "s3://cleaned", strength_db=0)
    assert len(outcomes) == 3
    for outcome in outcomes:
        assert outcome.error == f"cannot write {outcome.target}: access denied; check what your credentials allow"


def test_killed_while_it_works_nothing_is_half_there_nor_left_here(bucket, tmp_path, monkeypatch):
    """The next run clears away what the killed one had on this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.setitem(ENVIRONMENT, name, os.environ[name])
    monkeypatch.setitem(ENVIRONMENT, "TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    data = write(tmp_path / "many.wav", voice(480_000), 16_000).read_bytes()
    for k in range(12):
        bucket.pipe_file(f"recordings/many/{k}.wav", data)
    line = "--in", "s3://recordings/many", "--out", "s3://cleaned/many"
    process = start(*line)
    wait_for(lambda: names(bucket, "cleaned") or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert 1 <= len(names(bucket, "cleaned")) < 12
    assert all(bucket.size(f"cleaned/{name}") == len(data) for name in names(bucket, "cleaned"))
    process = start(*line)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert len(names(bucket, "cleaned")) == 12
    assert not list((tmp_path / "tmp").glob("rtdenoise-remote-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_a_file(bucket, tmp_path):
    """Three times the size, and by far more than a part of an upload."""

    def peak_kb(megabytes: int) -> int:
        (tmp_path / "x").write_bytes(os.urandom(1 << 20) * megabytes)
        code = (
            "import resource, sys\n"
            "from rtdenoise.io import remote\n"
            "remote._upload('x', 's3://cleaned/x')\n"
            "remote._download('s3://cleaned/x', 'y')\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        environment = ENVIRONMENT | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
        return int(done.stdout)

    assert peak_kb(120) < peak_kb(40) + 30_000


@contextlib.contextmanager
def serving(handler):
    """Address of a web server on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def web(tmp_path):
    """A web server on loopback; a file named ``cut.wav`` ends before its time."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def copyfile(self, source, outputfile):
            data = source.read()
            outputfile.write(data[: len(data) // 2] if "cut" in self.path else data)

    with serving(functools.partial(Handler, directory=str(tmp_path))) as address:
        yield address


def test_a_web_server_is_read_from(web, tmp_path):
    write(tmp_path / "a b.wav", voice(4_000))
    report = denoise_file(f"{web}/a%20b.wav?key=1", tmp_path / "out.wav", strength_db=0)
    denoise_file(tmp_path / "a b.wav", tmp_path / "same.wav", strength_db=0)
    assert report.source == f"{web}/a%20b.wav?key=1"
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "same.wav").read_bytes()


@pytest.mark.parametrize("name", ["no.wav", "cut.wav"])
def test_a_download_that_fails_leaves_nothing(web, tmp_path, name):
    write(tmp_path / "cut.wav", voice(400_000))
    with pytest.raises(AudioFileError, match=rf"cannot read {web}/{name}") as told:
        denoise_file(f"{web}/{name}", tmp_path / "out.wav")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out.wav").exists()


def test_a_store_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(RtdenoiseError, match="pip install gcsfs"):
        remote.look("gs://bucket/a.wav")
