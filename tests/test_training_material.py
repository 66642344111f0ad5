"""What training learns from may be named by manifests, and may lie elsewhere: the same clips as from a folder."""

from __future__ import annotations

import functools
import http.server
import json
import threading

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("soxr")

from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.training.data.clips import FULL_SCALE, open_bank
from rtdenoise.training.data.material import find_clips, find_material, place
from rtdenoise.training.data.mixer import Banks

RATE = 16_000


@pytest.fixture
def sounds(tmp_path):
    """Recordings below ``tmp_path/speech``, by name."""
    rng, made = np.random.default_rng(0), {}
    (tmp_path / "speech").mkdir()
    for name in "ab":
        made[name] = rng.integers(-9_000, 9_000, 3 * RATE).astype(np.int16)
        sf.write(tmp_path / f"speech/{name}.wav", made[name], RATE)
    return made


def manifest(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def held(places, cache) -> list[np.ndarray]:
    """The clips of a bank, as they are in the files."""
    bank = open_bank(places, "speech", RATE, cache)
    scale = 32_768 / FULL_SCALE
    return [bank.samples[bank.start[i] : bank.start[i + 1]].astype(int) * scale for i in range(len(bank))]


def test_a_manifest_names_clips_and_parts_of_them(sounds, tmp_path):
    rows = (
        {"audio_filepath": "speech/b.wav", "text": "whole"},
        {"audio_filepath": "speech/a.wav", "offset": 0.5, "duration": 1.25, "speaker": 7},
        {"audio_filepath": str(tmp_path / "speech/a.wav"), "offset": 2.5},
        "",
        {"audio_filepath": "speech/b.wav", "duration": 0.1},  # too short to be a clip
    )
    path = manifest(tmp_path / "list.jsonl", *rows)
    clips = held([path], tmp_path / "cache")
    a, b = sounds["a"], sounds["b"]
    wanted = b, a[RATE // 2 : round(1.75 * RATE)], a[round(2.5 * RATE) :]
    assert [len(clip) for clip in clips] == [len(each) for each in wanted]
    assert all(np.abs(clip - each).max() < 2 for clip, each in zip(clips, wanted, strict=True))
    assert [clip.speaker for clip in find_material(path, "speech")] == ["b", "7", "a", "b"]


def test_folders_and_manifests_go_together(sounds, tmp_path):
    path = manifest(tmp_path / "list.jsonl", {"audio_filepath": "speech/a.wav"})
    assert len(held([tmp_path / "speech", path], tmp_path / "cache")) == 3
    assert len(held([tmp_path / "speech"], tmp_path / "cache")) == 2  # another bank in the same folder
    with pytest.raises(UsageError, match="the same"):
        Banks.open([path], [path], [], RATE, tmp_path / "cache")


def test_a_folder_heeds_the_manifest_above_it(sounds, tmp_path):
    def found(of="speech", kind="speech", nc="0"):
        return [(clip.path.name, clip.source, clip.speaker) for clip in find_clips(tmp_path / of, kind, nc)]

    plain = [("a.wav", "speech", "a"), ("b.wav", "speech", "b")]
    assert found() == plain
    table = tmp_path / "manifest.csv"
    table.write_bytes(b"name,snr_db\n\xff,3\n")  # of something else
    assert found() == plain
    table.write_text("path,kind,source,who,nc\nspeech/a.wav,speech,readers,7,1\n", "utf-8-sig")  # by Excel
    assert found(nc="1") == [("a.wav", "readers", "7"), ("b.wav", "speech", "b")]
    assert found() == plain[1:]  # never trained on
    assert found(".") == []
    table.write_text("path,kind,source,who,nc\nspeech/a.wav,speech,readers,7,0\n")
    assert found() == found(kind="noise") == [("a.wav", "readers", "7"), ("b.wav", "speech", "b")]
    assert found(".") == [("a.wav", "readers", "7")]
    assert found(".", "noise") == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("no JSON", "line 2 is no JSON object with audio_filepath"),
        ({"path": "a.wav"}, "line 2 is no JSON object with audio_filepath"),
        ({"audio_filepath": "a.wav", "offset": "soon"}, "line 2: 'soon' is no number of seconds"),
        ({"audio_filepath": "a.wav", "duration": -1}, "line 2: -1 is no number of seconds"),
    ],
)
def test_a_line_that_names_nothing_is_told(sounds, tmp_path, row, said):
    path = manifest(tmp_path / "list.jsonl", {"audio_filepath": "speech/a.wav"}, row)
    with pytest.raises(UsageError, match=said):
        held([path], tmp_path / "cache")


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*none\.jsonl"):
        held([tmp_path / "none.jsonl"], tmp_path / "cache")


def test_clips_on_a_web_server_are_as_those_of_a_disk(sounds, tmp_path):
    """A manifest there too, against which their names are."""
    pytest.importorskip("fsspec", reason="pip install 'rtdenoise[remote]'")
    pytest.importorskip("aiohttp", reason="pip install 'rtdenoise[remote]'")
    manifest(tmp_path / "list.jsonl", *({"audio_filepath": f"speech/{name}.wav"} for name in sounds))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        there = place(f"http://127.0.0.1:{server.server_port}/list.jsonl")
        found = held([there], tmp_path / "cache")
        (tmp_path / "speech/b.wav").write_text("no sound")
        with pytest.raises(RtdenoiseError, match=f"cannot read {there.replace('list.jsonl', 'speech/b.wav')}"):
            held([there], tmp_path / "other")
    finally:
        server.shutdown()
        server.server_close()
    assert [len(clip) for clip in found] == [3 * RATE] * 2
    assert all(np.abs(clip - each).max() < 2 for clip, each in zip(found, sounds.values(), strict=True))
