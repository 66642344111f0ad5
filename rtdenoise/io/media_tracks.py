"""One track of a media file on its way out: samples in, encoded packets into the container.

Owns the choice of encoder, bit rate, rate and layout: as the track was before, as ``--audio-codec`` says, or what the
container usually holds.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from rtdenoise.errors import UsageError
from rtdenoise.io import pcm
from rtdenoise.io.media import LAYOUTS, Container
from rtdenoise.io.media_source import MediaSource

if TYPE_CHECKING:
    from rtdenoise.io.media_sink import MediaFile

_ENCODERS = {  # Where a codec is written by another name than it is read.
    "opus": "libopus",
    "mp3": "libmp3lame",
    "amr_nb": "libopencore_amrnb",
    "amrnb": "libopencore_amrnb",
}
_EXPERIMENTAL = {"vorbis", "dca", "dts", "truehd", "mlp", "sonic"}  # FFmpeg's own encoders of these are no good
_BIT_RATE = {"libopus": 64_000, "aac": 96_000, "libmp3lame": 96_000, "libopencore_amrnb": 12_200}  # A channel.
# AMR looks 5 ms ahead (3GPP TS 26.090), 40 samples; FFmpeg's encoder states 50.
_OVERSTATED = {"libopencore_amrnb": 10}
_LOSE_A_FRAME = {"wmav1", "wmav2"}  # Their decoder gives nothing for the first one: silence is what is lost.


@dataclass(frozen=True)
class Encoding:
    """How a track is encoded. ``start_s``: where its first sample lies."""

    encoder: str
    rate: int
    layout: str
    form: str
    bit_rate: int | None
    source_rate: int
    start_s: Fraction

    @classmethod
    def of(cls, path: str, kind: Container, source: Any, wanted: str | None, warnings: list[str]) -> Encoding:
        """For an output of this kind: ``wanted`` by name, else as the source was, else what is usual there."""
        before = source.codec if isinstance(source, MediaSource) else ""
        codec = _encoder(path, kind, wanted) if wanted else _same(path, kind, before, warnings)
        same = codec.canonical_name == before
        bit_rate = None
        if codec.lossy and not codec.lossless:
            bit_rate = source.bit_rate() if same else _BIT_RATE.get(codec.name, 96_000) * source.channels
        rates = codec.audio_rates or [source.rate]
        higher = [rate for rate in rates if rate >= source.rate]
        rate = source.rate if source.rate in rates else min(higher) if higher else max(rates)
        if rate < source.rate:
            warnings.append(f"{path}: {codec.name} holds at most {rate} Hz, the input has {source.rate}; resampled")
        layout = source.layout if isinstance(source, MediaSource) else LAYOUTS.get(source.channels, "mono")
        start_s = source.start_s if isinstance(source, MediaSource) and kind.timed else Fraction(0)
        form = _form(codec, source.subtype)
        if codec.name == "libopencore_amrnb" and source.channels != 1:
            raise UsageError(f"{path}: AMR holds one channel, the input has {source.channels}; write .m4a or .wav")
        return cls(codec.name, rate, layout, form, bit_rate, source.rate, start_s)


class MediaTrack:
    """Takes samples, as any sink, and encodes them."""

    def __init__(self, file: MediaFile, output: Any, encoding: Encoding, kind: Container, replaced: Any | None = None):
        self._file, self._output, self._encoding = file, output, encoding
        self.clipped, self.warnings, self._began = 0, file.warnings, False
        self._stream = output.add_stream(encoding.encoder, rate=encoding.rate, layout=encoding.layout)
        self._stream.codec_context.format = encoding.form
        if encoding.bit_rate:
            self._stream.codec_context.bit_rate = encoding.bit_rate
        if replaced is not None:
            statistics = ("BPS", "NUMBER_OF_", "_STATISTICS", "DURATION", "ENCODER", "encoder")
            self._stream.metadata.update(
                {key: text for key, text in replaced.metadata.items() if not key.startswith(statistics)}
            )
            self._stream.disposition = int(replaced.disposition)
        overstated = _OVERSTATED.get(encoding.encoder, 0) * encoding.source_rate // encoding.rate
        self._at = round(encoding.start_s * encoding.source_rate) + (overstated if kind.timed else 0)
        self._to_skip = 0 if kind.timed else max(0, _delay(encoding) - overstated)

    @property
    def reached_s(self) -> Fraction:
        """Where the next sample lies."""
        return Fraction(self._at, self._encoding.source_rate)

    def write(self, samples: np.ndarray) -> None:
        """Encode float32 ``[samples, channels]``, and let the rest of the file catch up."""
        if self._to_skip:  # The encoder's delay stands in their place, so that all others lie where they were.
            skipped = min(self._to_skip, len(samples))
            self._to_skip -= skipped
            self._at += skipped
            samples = samples[skipped:]
        if not len(samples):
            return
        if not self._began and self._encoding.encoder in _LOSE_A_FRAME:
            lost = self._stream.codec_context.frame_size
            samples = np.concatenate([np.zeros((lost, samples.shape[1]), np.float32), samples])
            self._at -= lost
        self._began = True
        if not self._encoding.form.startswith(("flt", "dbl")):
            samples, held = pcm.clip(samples)
            self.clipped += held
        from av import AudioFrame

        packed = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout=self._encoding.layout)
        frame.sample_rate, frame.time_base = self._encoding.source_rate, Fraction(1, self._encoding.source_rate)
        frame.pts = self._at
        self._at += len(samples)
        with self._file.failing_clearly():
            self._output.mux(self._stream.encode(frame))
            self._file.catch_up()

    def flush(self) -> None:
        """The end of the sound."""
        self._output.mux(self._stream.encode(None))


def _same(path: str, kind: Container, before: str, warnings: list[str]) -> Any:
    """The encoder of what the track was, or the usual one of the container."""
    if before and before not in _EXPERIMENTAL:
        with contextlib.suppress(UsageError):
            return _encoder(path, kind, before)
    usual = _encoder(path, kind, kind.encoder)
    if before and before not in ("amr_nb", "amrnb"):
        warnings.append(f"{path}: its sound is {usual.canonical_name}; {before} cannot be written there")
    return usual


def _encoder(path: str, kind: Container, name: str) -> Any:
    """The encoder of this name or of this codec, if the container takes it."""
    import av

    try:
        codec = av.Codec(_ENCODERS.get(name, name), "w")
    except av.codec.codec.UnknownCodecError as problem:
        raise UsageError(
            f"--audio-codec {name} is no encoder that is installed; try aac, opus, mp3, flac or alac"
        ) from problem
    with av.open(io.BytesIO(), "w", format=kind.format) as trial:
        try:
            if codec.type != "audio":
                raise ValueError
            trial.add_stream(codec.name, rate=48_000)
        except ValueError as problem:
            raise UsageError(f"{path} cannot hold {name}; choose another --audio-codec or extension") from problem
    return codec


def _form(codec: Any, subtype: str) -> str:
    """The sample format that an encoder is given: floating point where it takes it, else as deep as the source."""
    forms: list[str] = [form.name for form in codec.audio_formats or []]
    floating = [form for form in forms if form.startswith("flt")]
    if floating and not (codec.lossless and subtype != "FLOAT"):
        return floating[0]
    deep = [form for form in forms if form.startswith("s32")]
    shallow = [form for form in forms if form.startswith("s16")]
    wanted = shallow + deep if subtype == "PCM_16" else deep + shallow
    return (wanted or forms)[0]


def _delay(encoding: Encoding) -> int:
    """Samples of the source's rate that a decoder will put before the first one, where no container says so."""
    import av

    trial: Any = av.CodecContext.create(encoding.encoder, "w")
    trial.sample_rate, trial.layout, trial.format = encoding.rate, encoding.layout, encoding.form
    trial.time_base = Fraction(1, encoding.rate)
    if encoding.bit_rate:
        trial.bit_rate = encoding.bit_rate
    silence = av.AudioFrame(encoding.form, encoding.layout, 1 << 14)
    silence.sample_rate, silence.pts, silence.time_base = encoding.rate, 0, trial.time_base
    for plane in silence.planes:
        plane.update(bytes(plane.buffer_size))
    first = next((packet for packet in trial.encode(silence) + trial.encode(None) if packet.pts is not None), None)
    return round(max(0, -first.pts) * encoding.source_rate / encoding.rate) if first is not None else 0
