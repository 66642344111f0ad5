"""A filtered film is the film that went in, but for its sound, which lies sample by sample over the old one."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from command import ROOT, call

av = pytest.importorskip("av", minversion="18", reason="pip install 'rtdenoise[media]'")

from films import SECONDS, clicks, copied, decoded, lag, make, offset  # noqa: E402
from rtdenoise.io import media  # noqa: E402

RICH = {"subtitles": "mov_text", "chapters": True, "tracks": 2}
FILMS = [  # name, format, audio, video, rate, channels, what else is in it
    ("a.mp4", "mp4", "aac", "libx264", 48_000, 2, RICH),
    ("a.mp4", "mp4", "aac", "mpeg4", 44_100, 1, {"chapters": True}),
    ("a.mp4", "mp4", "libmp3lame", "mpeg4", 44_100, 1, {}),
    ("a.mp4", "mp4", "libopus", "libx265", 48_000, 2, {}),
    ("a.mp4", "mp4", "alac", "libx264", 48_000, 1, {}),
    ("a.m4v", "mp4", "ac3", "libx264", 48_000, 2, {}),
    ("a.mov", "mov", "aac", "libx264", 44_100, 2, RICH),
    ("a.mov", "mov", "pcm_s16le", "mjpeg", 48_000, 2, {}),
    ("a.mov", "mov", "pcm_s24le", "prores", 48_000, 1, {}),
    ("a.mkv", "matroska", "aac", "libx264", 44_100, 1, {"subtitles": "subrip", "chapters": True, "attachment": True}),
    ("a.mkv", "matroska", "libopus", "libvpx-vp9", 48_000, 2, {"tracks": 3}),
    ("a.mkv", "matroska", "flac", "ffv1", 96_000, 1, {}),
    ("a.mkv", "matroska", "ac3", "libx264", 48_000, 6, {}),
    ("a.mkv", "matroska", "libmp3lame", "mpeg2video", 32_000, 2, {}),
    ("a.webm", "webm", "libopus", "libvpx", 48_000, 1, {}),
    ("a.webm", "webm", "libopus", "libvpx-vp9", 48_000, 2, {"tracks": 2}),
    ("a.wmv", "asf", "wmav2", "wmv2", 44_100, 2, {}),
    ("a.avi", "avi", "libmp3lame", "mpeg4", 44_100, 1, {}),
    ("a.avi", "avi", "pcm_s16le", "mjpeg", 16_000, 1, {}),
    ("a.3gp", "3gp", "libopencore_amrnb", "mpeg4", 8_000, 1, {}),
    ("a.3gp", "3gp", "aac", "h263", 16_000, 1, {}),
    ("a.flv", "flv", "aac", "flv", 44_100, 1, {}),
    ("a.ts", "mpegts", "aac", "libx264", 48_000, 1, {}),
]
RECORDINGS = [
    ("a.m4a", "mp4", "aac", 44_100, 2, {"cover": True, "chapters": True}),
    ("a.m4a", "mp4", "alac", 48_000, 1, {}),
    ("a.aac", "adts", "aac", 44_100, 1, {}),
    ("a.mka", "matroska", "wavpack", 48_000, 1, {}),
    ("a.wma", "asf", "wmav1", 22_050, 1, {}),
    ("a.amr", "amr", "libopencore_amrnb", 8_000, 1, {}),
    ("a.ac3", "ac3", "ac3", 32_000, 2, {}),
    ("a.eac3", "eac3", "eac3", 48_000, 1, {}),
    ("a.wv", "wv", "wavpack", 44_100, 2, {}),
    ("a.tta", "tta", "tta", 44_100, 1, {}),
]

ROUNDING_S = {"matroska": 0.001, "webm": 0.001, "asf": 0.001, "flv": 0.001, "mpegts": 1 / 90_000}  # of time stamps


@pytest.mark.parametrize(
    ("name", "form", "audio", "video", "rate", "channels", "more"),
    FILMS,
    ids=[f"{f[0][2:]}-{f[2]}-{f[3]}" for f in FILMS],
)
def test_a_film_keeps_all_but_its_sound_which_stays_in_place(
    tmp_path, capfd, name, form, audio, video, rate, channels, more
):
    source, target = make(tmp_path / name, form, audio, video, rate, channels, **more), tmp_path / f"out-{name}"
    code, _, said = call(capfd, source, target)
    assert code == 0, said
    assert copied(target) == copied(source)
    with av.open(str(source)) as a, av.open(str(target)) as b:
        assert [stream.type for stream in b.streams] == [stream.type for stream in a.streams]
        for key in ("title", "artist"):
            assert b.metadata.get(key) == a.metadata.get(key)
        titles = [[(c["start"] * c["time_base"], c["metadata"]) for c in film.chapters()] for film in (a, b)]
        assert titles[0] == titles[1]
        before, after = a.streams.audio[0], b.streams.audio[0]
        for kept in ("sample_rate", "channels"):
            assert getattr(after.codec_context, kept) == getattr(before.codec_context, kept)
        assert after.codec_context.codec.canonical_name == before.codec_context.codec.canonical_name
        assert after.disposition == before.disposition
        assert after.language == before.language
    (_, old, _), (_, new, _) = decoded(source), decoded(target)
    moved = (offset(target) - offset(source)) * rate + lag(old, new)
    rounding = ROUNDING_S.get(form, 0.0) * rate
    assert abs(moved) <= 1 + rounding, f"the sound moved by {float(moved):.1f} samples"


@pytest.mark.parametrize(
    ("name", "form", "audio", "rate", "channels", "more"), RECORDINGS, ids=[f"{r[0][2:]}-{r[2]}" for r in RECORDINGS]
)
def test_a_recording_keeps_codec_cover_and_place(tmp_path, capfd, name, form, audio, rate, channels, more):
    source, target = make(tmp_path / name, form, audio, None, rate, channels, **more), tmp_path / f"out-{name}"
    code, _, said = call(capfd, source, target)
    assert code == 0, said
    assert copied(target) == copied(source)
    (old_start, old, old_rate), (new_start, new, new_rate) = decoded(source), decoded(target)
    assert (new_rate, new.shape[1]) == (old_rate, old.shape[1])
    assert abs((new_start - old_start) * rate + lag(old, new)) <= 1 + ROUNDING_S.get(form, 0.0) * rate
    assert abs(len(new) - len(old)) <= 2_048  # an encoder's last frame


@pytest.mark.parametrize("name", ["b.wav", "b.flac", "b.ogg", "b.mp3"])
def test_a_film_gives_a_sound_file(tmp_path, capfd, name):
    source = make(tmp_path / "a.mp4", "mp4", "alac", "mpeg4", 48_000, 2)
    assert call(capfd, source, tmp_path / name)[0] == 0
    sound, rate = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)
    assert (rate, sound.shape) == (48_000, (96_000, 2))
    assert abs(lag(clicks(48_000, 2, seed=0), sound)) <= 1


def test_lossless_sound_comes_back_bit_for_bit(tmp_path, capfd):
    source = make(tmp_path / "a.mov", "mov", "pcm_s16le", "mpeg4", 48_000, 2)
    assert call(capfd, source, tmp_path / "b.mov", "--bypass")[0] == 0
    np.testing.assert_array_equal(decoded(tmp_path / "b.mov")[1], decoded(source)[1])


@pytest.mark.parametrize("name", ["b.m4a", "b.mka", "b.wma", "b.aac", "b.ac3", "b.mkv"])
def test_a_sound_file_becomes_a_recording(tmp_path, capfd, name):
    sound = clicks(44_100, 2)
    soundfile.write(tmp_path / "a.wav", sound, 44_100)
    assert call(capfd, tmp_path / "a.wav", tmp_path / name)[0] == 0
    _, written, rate = decoded(tmp_path / name)
    assert rate == (48_000 if name in ("b.mka", "b.mkv") else 44_100), "Opus has no 44.1 kHz"
    assert abs(len(written) / rate - SECONDS) < 0.06
    assert abs(lag(resample_poly(sound, rate // 300, 44_100 // 300), written)) <= 1


@pytest.mark.parametrize(("track", "changed"), [("2", [1]), ("all", [0, 1, 2]), (None, [0])])
def test_only_the_tracks_asked_for_are_replaced(tmp_path, capfd, track, changed):
    source = make(tmp_path / "a.mkv", "matroska", "flac", "mpeg4", tracks=3)
    options = ["--track", track] if track else []
    assert call(capfd, source, tmp_path / "b.mkv", "--strength", "0", "--audio-codec", "alac", *options)[0] == 0
    with av.open(str(tmp_path / "b.mkv")) as film:
        codecs = [stream.codec_context.codec.canonical_name for stream in film.streams.audio]
    assert codecs == ["alac" if k in changed else "flac" for k in range(3)]
    assert copied(tmp_path / "b.mkv", tuple(changed)) == copied(source, tuple(changed))
    for k in range(3):
        assert abs(lag(decoded(source, k)[1], decoded(tmp_path / "b.mkv", k)[1])) <= 1


def test_the_default_track_is_the_one_that_players_choose(tmp_path, capfd):
    source = tmp_path / "a.mkv"
    make(source, "matroska", "flac", tracks=2)
    with av.open(str(source)) as a, av.open(str(tmp_path / "c.mkv"), "w", format="matroska") as b:
        streams = [b.add_stream_from_template(stream) for stream in a.streams]
        for stream, disposition in zip(streams, (0, int(av.stream.Disposition.default)), strict=True):
            stream.disposition = disposition
        for packet in a.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                b.mux(packet)
    assert call(capfd, tmp_path / "c.mkv", tmp_path / "b.mkv", "--audio-codec", "alac")[0] == 0
    with av.open(str(tmp_path / "b.mkv")) as film:
        assert [s.codec_context.codec.canonical_name for s in film.streams.audio] == ["flac", "alac"]


@pytest.mark.parametrize(("codec", "becomes"), [("opus", "opus"), ("libmp3lame", "mp3"), ("flac", "flac")])
def test_audio_codec_is_the_one_asked_for(tmp_path, capfd, codec, becomes):
    source = make(tmp_path / "a.mp4", "mp4", "aac", "mpeg4", 44_100)
    assert call(capfd, source, tmp_path / "b.mkv", "--audio-codec", codec)[0] == 0
    with av.open(str(tmp_path / "b.mkv")) as film:
        assert film.streams.audio[0].codec_context.codec.canonical_name == becomes
    (old_start, old, _), (new_start, new, rate) = decoded(source), decoded(tmp_path / "b.mkv")
    if rate == 44_100:
        assert abs((new_start - old_start) * rate + lag(old, new)) <= 1 + rate / 1_000


def test_bit_rate_is_kept(tmp_path, capfd):
    for name, form in (("a.mp4", "mp4"), ("a.mkv", "matroska")):
        source = make(tmp_path / name, form, "aac", None, 48_000, 2, seconds=4)
        assert call(capfd, source, tmp_path / f"b{name}")[0] == 0
        rates = []
        for path in (source, tmp_path / f"b{name}"):
            with av.open(str(path)) as film:
                rates.append(sum(packet.size for packet in film.demux(film.streams.audio[0])))
        assert 0.7 < rates[1] / rates[0] < 1.3, rates


def test_a_cover_becomes_an_attachment_in_matroska(tmp_path, capfd):
    source = make(tmp_path / "a.m4a", "mp4", "aac", cover=True)
    assert call(capfd, source, tmp_path / "b.mka")[0] == 0
    assert [row[4][0][0] for row in copied(tmp_path / "b.mka")] == [row[4][0][0] for row in copied(source)]


def test_a_folder_takes_films_too(tmp_path, capfd):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in/a.mp4", "mp4", "aac", "mpeg4")
    make(tmp_path / "in/b.m4a", "mp4", "aac")
    soundfile.write(tmp_path / "in/c.wav", clicks(16_000), 16_000)
    assert call(capfd, "--in", tmp_path / "in", "--out", tmp_path / "out")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mp4", "b.m4a", "c.wav"]
    assert copied(tmp_path / "out/a.mp4") == copied(tmp_path / "in/a.mp4")


def test_every_container_is_tried():
    assert {name[1:] for name, *_ in [*FILMS, *RECORDINGS]} >= set(media.CONTAINERS) - {".m4b"}
    assert len(FILMS) + len(RECORDINGS) >= 25


def test_the_table_of_formats_is_what_is_written():
    page = (ROOT / "docs/howto/films.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `.")]
    kinds = {True: "film", False: "sound"}
    assert rows == [
        f"| `{name}` | {each.format} | {kinds[each.picture]} | {each.encoder} |"
        for name, each in sorted(media.CONTAINERS.items())
    ]
