"""Denoise sound that arrives in chunks of any size, as it comes from a network, a codec or a sound card.

    python examples/stream_example.py                                 # the clip of this folder
    python examples/stream_example.py --latency low --chunk 37

A `Denoiser` returns as many samples as it is given, each a fixed `latency_samples` later. Chunk sizes do not matter:
the stream below comes in chunks of changing, odd sizes, and the result equals that of one big call. Each chunk is
timed, since in a live stream it must be done before the next one arrives.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

import rtdenoise

HERE = Path(__file__).parent


def arriving(sound: np.ndarray, largest: int) -> Iterator[np.ndarray]:
    """The sound in chunks of 1 to ``largest`` samples, as an unsteady sender would deliver it."""
    rng = np.random.default_rng(0)
    at = 0
    while at < len(sound):
        size = int(rng.integers(1, largest + 1))
        yield sound[at : at + size]
        at += size


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", type=Path, default=HERE / "noisy.wav", help="sound file to play")
    parser.add_argument("--model", help="name or .onnx path; `rtdenoise models` lists the names")
    parser.add_argument("--latency", choices=("normal", "low"), default="normal", help="16 ms or 8 ms")
    parser.add_argument("--chunk", type=int, default=999, metavar="N", help="largest chunk in samples")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    sound, rate = soundfile.read(args.source, dtype="float32", always_2d=True)
    options = {"model": args.model} if args.model else {}

    # One Denoiser for the life of a stream: it remembers what came before.
    stream = rtdenoise.Denoiser(rate=rate, channels=sound.shape[1], latency=args.latency, **options)
    stream.process(sound[: rate // 100])  # loads or compiles code once, before the clock runs
    stream.reset()
    print(f"latency: {stream.latency_samples} samples = {stream.latency_ms:g} ms at {rate} Hz, whatever the chunks")

    pieces, sizes, times_s = [], [], []
    for chunk in arriving(sound, args.chunk):
        began = time.perf_counter()
        piece = stream.process(chunk)  # as long as the chunk
        times_s.append(time.perf_counter() - began)
        sizes.append(len(chunk))
        pieces.append(piece)
    pieces.append(stream.flush())  # the end of a stream: the last samples are still inside

    busy = sum(times_s) / (len(sound) / rate)
    p50, p99 = 1000 * np.percentile(times_s, [50, 99])
    print(f"{len(sizes)} chunks of {min(sizes)} to {max(sizes)} samples")
    print(f"work on a chunk: median {p50:.2f} ms, 99 % below {p99:.2f} ms")
    print(f"busy {100 * busy:.1f} % of the time, so {1 / busy:.0f}x faster than real time")

    # Nothing is lost, and no chunk border is heard: the same as one call over everything.
    chunked = np.concatenate(pieces)[stream.latency_samples :]
    whole = rtdenoise.denoise(sound, rate, latency=args.latency, **options)
    print(f"{len(chunked)} samples out for {len(sound)} in")
    print(f"largest difference to one big call: {np.abs(chunked - whole).max():.1e}")


if __name__ == "__main__":
    try:
        main()
    except (rtdenoise.RtdenoiseError, soundfile.LibsndfileError) as problem:
        sys.exit(f"stream_example: {problem}")
