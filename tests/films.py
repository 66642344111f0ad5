"""Films and recordings made with PyAV's own encoders: clicks as sound, and whatever else a container may hold."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
PIXELS = {"mjpeg": "yuvj420p", "prores": "yuv422p10le"}
FRAME_RATE = 25
SECONDS = 2


def clicks(rate: int, channels: int = 1, seconds: float = SECONDS, seed: int = 1) -> np.ndarray:
    """float32 ``[samples, channels]``: bursts at uneven distances, over a little noise that keeps encoders busy."""
    rng = np.random.default_rng(seed)
    sound = 0.002 * rng.standard_normal((round(seconds * rate), channels))
    at = rate // 5
    while at < len(sound) - rate // 10:
        sound[at : at + rate // 400] += (
            0.5 * rng.standard_normal((rate // 400, channels)) * np.hanning(rate // 400)[:, None]
        )
        at += int(rng.integers(rate // 8, rate // 4))
    return sound.astype(np.float32)


def frame_of(sound: np.ndarray, rate: int, at: int, layout: str) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound).reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def make(
    path: Path,
    form: str,
    audio: str,
    video: str | None = None,
    rate: int = 48_000,
    channels: int = 1,
    tracks: int = 1,
    subtitles: str | None = None,
    chapters: bool = False,
    attachment: bool = False,
    cover: bool = False,
    late_s: float = 0.0,
    gap: tuple[float, float] | None = None,
    picture_times: list[float] | None = None,
    seconds: float = SECONDS,
) -> Path:
    """A file; ``gap``: sound between these two times is not in it. ``picture_times``: of a variable frame rate."""
    with av.open(str(path), "w", format=form) as output:
        output.metadata.update({"title": "Talk", "artist": "Somebody"})
        picture = None
        if video:
            picture = output.add_stream(video, rate=FRAME_RATE)
            picture.width, picture.height, picture.pix_fmt = 176, 144, PIXELS.get(video, "yuv420p")
            picture.codec_context.time_base = Fraction(1, 1_000 if picture_times else FRAME_RATE)
        sounds = []
        for number in range(tracks):
            stream = output.add_stream(audio, rate=rate, layout=LAYOUTS[channels])
            stream.codec_context.bit_rate = 96_000 * channels if audio != "libopencore_amrnb" else 12_200
            if tracks > 1:
                stream.metadata["language"] = ["eng", "deu", "fra"][number]
            sounds.append((stream, clicks(rate, channels, seconds, seed=number)))
        words = output.add_mux_stream(subtitles) if subtitles else None
        if words is not None:
            words.time_base = Fraction(1, 1_000)
        art = output.add_stream("mjpeg", rate=1) if cover else None
        if art is not None:
            art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
            art.disposition = int(av.stream.Disposition.attached_pic)
        if attachment:
            output.add_attachment("font.ttf", "application/x-truetype-font", b"\0\1\0\0" + bytes(range(200)))
        if chapters:
            half = round(500 * seconds)
            output.set_chapters(
                [
                    {"id": 1, "start": 0, "end": half, "time_base": Fraction(1, 1_000), "metadata": {"title": "One"}},
                    {
                        "id": 2,
                        "start": half,
                        "end": 2 * half,
                        "time_base": Fraction(1, 1_000),
                        "metadata": {"title": "Two"},
                    },
                ]
            )
        output.start_encoding()
        if art is not None:
            output.mux(art.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")))
            output.mux(art.encode(None))
        if words is not None:
            for second in range(int(seconds)):
                text = "Hello"
                data = len(text).to_bytes(2, "big") + text.encode() if subtitles == "mov_text" else text.encode()
                packet = av.Packet(data)
                packet.stream, packet.time_base = words, Fraction(1, 1_000)
                packet.pts = packet.dts = 1_000 * second
                packet.duration = 800
                output.mux(packet)
        times = picture_times or [k / FRAME_RATE for k in range(int(seconds * FRAME_RATE))]
        step = rate // FRAME_RATE
        for k in range(max(len(times), int(seconds * FRAME_RATE))):
            if picture is not None and k < len(times):
                pixels = np.full((144, 176, 3), 5 * k % 250, np.uint8)
                image = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                image.time_base = picture.codec_context.time_base
                image.pts = round(times[k] / image.time_base)
                output.mux(picture.encode(image))
            for stream, sound in sounds:
                part = sound[k * step : (k + 1) * step]
                if not len(part) or (gap and gap[0] <= k / FRAME_RATE < gap[1]):
                    continue
                at = k * step + round(late_s * rate)
                output.mux(stream.encode(frame_of(part, rate, at, stream.codec_context.layout.name)))
        for stream in [picture, *[stream for stream, _ in sounds]]:
            if stream is not None:
                output.mux(stream.encode(None))
    return path


def decoded(path: Path, track: int = 0) -> tuple[Fraction, np.ndarray, int]:
    """Time of the first sample, samples on their time line, and rate: by the time stamps alone."""
    with av.open(str(path)) as container:
        stream, start, at, parts = container.streams.audio[track], None, 0, []
        resampler = av.AudioResampler("flt")
        for frame in container.decode(stream):
            time = Fraction(frame.pts * frame.time_base) if frame.pts is not None else None
            start = (time or Fraction(0)) if start is None else start
            ahead = round((time - start) * frame.sample_rate) - at if time is not None else 0
            if ahead > frame.sample_rate // 50:
                parts.append(np.zeros((ahead, frame.layout.nb_channels), np.float32))
                at += ahead
            for same in resampler.resample(frame):
                parts.append(same.to_ndarray().reshape(-1, frame.layout.nb_channels))
                at += same.samples
        return start or Fraction(0), np.concatenate(parts), stream.codec_context.sample_rate


def copied(path: Path, replaced: tuple[int, ...] = (0,)) -> list[tuple]:
    """Of every stream but the replaced audio tracks: kind, codec, language, hashes and relative times of its packets.

    The times count from the first packet of the first stream: some containers move all of them alike.
    """
    with av.open(str(path)) as container:
        out = {container.streams.audio[k].index for k in replaced}
        streams = [stream for stream in container.streams if stream.index not in out]
        found: dict[int, list] = {stream.index: [] for stream in streams}
        origin = None
        for packet in container.demux():
            if not packet.size or packet.stream.index not in found:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            time = None if stamp is None else round(stamp * packet.time_base * 1_000)
            origin = time if origin is None else origin
            found[packet.stream.index].append((hashlib.sha256(bytes(packet)).hexdigest(), time and time - origin))
        return [
            (
                stream.type,
                stream.codec_context.codec.canonical_name if stream.codec_context else None,
                stream.metadata.get("language"),
                stream.metadata.get("filename"),
                found[stream.index],
            )
            for stream in streams
        ]


def lag(before: np.ndarray, after: np.ndarray) -> int:
    """How many samples later the same sound lies."""
    n = min(len(before), len(after))
    products = np.fft.rfft(after[:n, 0], 2 * n) * np.conj(np.fft.rfft(before[:n, 0], 2 * n))
    place = int(np.argmax(np.fft.irfft(products)))
    return place - 2 * n if place > n else place


def offset(path: Path) -> Fraction:
    """From the first picture to the first sample, in s."""
    with av.open(str(path)) as container:
        first = min(
            frame.pts * frame.time_base
            for frame in container.decode(container.streams.video[0])
            if frame.pts is not None
        )
    return decoded(path)[0] - Fraction(first)
