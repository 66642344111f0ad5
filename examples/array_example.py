"""Denoise a whole sound that is already in memory.

    python examples/array_example.py                                  # the clip of this folder
    python examples/array_example.py --in talk.flac --out clean.flac --strength 12

`rtdenoise.denoise` takes float samples as ``[samples]`` or ``[samples, channels]`` and returns an array of the same
shape that is sample-aligned with its input. For sound that arrives in chunks, see stream_example.py.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

import rtdenoise

HERE = Path(__file__).parent


def decibel(sound: np.ndarray) -> float:
    """Level in dB of full scale."""
    return 10 * np.log10(np.mean(np.square(sound)) + 1e-12)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", type=Path, default=HERE / "noisy.wav", help="sound file to read")
    parser.add_argument("--out", dest="target", type=Path, help="sound file to write (default: write none)")
    parser.add_argument("--model", help="name or .onnx path; `rtdenoise models` lists the names")
    parser.add_argument("--strength", type=float, metavar="DB", help="attenuation limit (default: none)")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    noisy, rate = soundfile.read(args.source, dtype="float32")
    options = {"model": args.model} if args.model else {}

    # The one line this example is about.
    clean = rtdenoise.denoise(noisy, rate, strength_db=args.strength, **options)

    print(f"{args.source.name}: {len(noisy) / rate:.1f} s at {rate} Hz, shape {noisy.shape} in, {clean.shape} out")
    print(f"level {decibel(noisy):.1f} dBFS before, {decibel(clean):.1f} dBFS after")

    # Because the result is sample-aligned, the difference is what was removed. Listen to it: it should hold no speech.
    removed = noisy - clean
    print(f"removed: {decibel(removed):.1f} dBFS")

    # An attenuation limit keeps some of the room, which many listeners prefer to dead silence between words.
    for limit_db in (0, 6, 12, 24):
        limited = rtdenoise.denoise(noisy, rate, strength_db=limit_db, **options)
        print(f"attenuation limit {limit_db:>2} dB: level after {decibel(limited):.1f} dBFS")

    if args.target:
        print(f"writing {args.target}")
        soundfile.write(args.target, clean, rate)


if __name__ == "__main__":
    try:
        main()
    except (rtdenoise.RtdenoiseError, soundfile.LibsndfileError) as problem:
        sys.exit(f"array_example: {problem}")
