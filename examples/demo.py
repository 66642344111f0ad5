"""Filter the noisy clip of this folder, measure what happened, and draw it.

    make demo        or        python examples/demo.py --in my_recording.wav

The clip's clean voice is known (see make_clip.py), so the scores are true ones: level of the pauses and of the speech,
and SI-SDR, which says in dB how much of the output is the clean voice. With --in, what needs a clean voice is left out.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import rtdenoise

HERE = Path(__file__).parent
FLOOR_DB, TOP_DB = -78, -18  # of the pictures' one colour scale, in dB of full scale per bin
INK, FAINT, PAPER = "#e8e6f0", "#8f8ba3", "#12101c"


def decibel(power: Any) -> Any:
    return 10 * np.log10(np.maximum(power, 1e-12))


def si_sdr_db(sound: np.ndarray, clean: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio of ``sound`` against the clean voice."""
    target = clean * np.dot(sound, clean) / np.dot(clean, clean)
    return float(decibel(np.sum(target**2) / np.sum((sound - target) ** 2)))


def speech_mask(clean: np.ndarray, rate: int) -> np.ndarray:
    """True where the voice speaks: within 40 dB of its loudest 50 ms, pauses of a syllable included."""
    frame = rate // 20
    power = np.square(clean[: len(clean) // frame * frame]).reshape(-1, frame).mean(1)
    active = power > 1e-4 * power.max()
    near = active | np.roll(active, 1) | np.roll(active, -1)
    return np.pad(np.repeat(near, frame), (0, len(clean) - len(near) * frame))


def spectrogram_db(sound: np.ndarray, rate: int) -> np.ndarray:
    """``[bins, frames]``, 32 ms Hann windows every 8 ms."""
    size, hop = 4 * (rate // 125), rate // 125
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, size // 2), size)[::hop]
    window = np.hanning(size)
    return decibel(np.abs(np.fft.rfft(frames * window) / window.sum()).T ** 2 * 2)


def draw(path: Path, panels: list[tuple[str, np.ndarray]], rate: int, caption: str) -> None:
    """Spectrograms above each other on one time axis and one colour scale."""
    try:
        import matplotlib
    except ModuleNotFoundError as missing:
        raise rtdenoise.UsageError("a picture needs: pip install 'rtdenoise[plot]' (or say --no-picture)") from missing
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"text.color": INK, "axes.labelcolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT})
    figure, axes = plt.subplots(len(panels), 1, figsize=(12, 6.6), dpi=130, sharex=True, facecolor=PAPER)
    figure.subplots_adjust(left=0.06, right=0.925, top=0.87, bottom=0.085, hspace=0.22)
    for axis, (title, sound) in zip(axes, panels, strict=True):
        extent = (0, len(sound) / rate, 0, rate / 2000)
        options = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": FLOOR_DB, "vmax": TOP_DB}
        image = axis.imshow(spectrogram_db(sound, rate), extent=extent, interpolation="bilinear", **options)
        axis.set_title(title, loc="left", fontsize=12, color=INK, pad=5)
        axis.set_ylabel("frequency (kHz)")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    axes[-1].set_xlabel("time (s)")
    bar = figure.colorbar(image, cax=figure.add_axes((0.94, 0.085, 0.012, 0.785)))
    bar.set_label("level (dBFS)")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    figure.text(0.06, 0.945, "rtdenoise", fontsize=19, fontweight="bold", color=INK)
    figure.text(0.925, 0.948, caption, fontsize=11, color=FAINT, ha="right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, facecolor=PAPER)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", type=Path, help="another recording (default: the clip)")
    parser.add_argument("--out", dest="folder", type=Path, default=Path("demo-out"), help="folder for results")
    parser.add_argument("--model", help="name or .onnx path; `rtdenoise models` lists the names")
    parser.add_argument("--no-picture", action="store_true", help="only listen and measure")
    args = parser.parse_args()

    source = args.source or HERE / "noisy.wav"
    noisy = soundfile.read(source, dtype="float32", always_2d=True)[0].mean(1)
    rate = soundfile.info(source).samplerate
    stream = rtdenoise.Denoiser(rate=rate, **({"model": args.model} if args.model else {}))
    stream.process(noisy[: rate // 10])  # compiles or loads the kernels: no part of the speed
    stream.reset()
    began = time.perf_counter()
    filtered = np.concatenate([stream.process(noisy), stream.flush()])[stream.latency_samples :]
    took_s = time.perf_counter() - began
    speed = len(noisy) / rate / took_s

    args.folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(args.folder / "clean.wav", np.clip(filtered, -1, 1), rate)
    print(f"{source.name}: {len(noisy) / rate:.1f} s at {rate} Hz through model '{stream.model.name}'\n")
    titles = ["before", "after"]
    if args.source is None:
        clean, _ = soundfile.read(HERE / "clean.wav", dtype="float32")
        speaks = speech_mask(clean, rate)
        print(f"{'':<22}{'before':>12}{'after':>12}{'change':>12}")
        for name, part in (("level of speech", speaks), ("level of pauses", ~speaks)):
            before, after = (decibel(np.mean(sound[part] ** 2)) for sound in (noisy, filtered))
            print(f"{name:<22}{before:>7.1f} dBFS{after:>7.1f} dBFS{after - before:>+9.1f} dB")
        before, after = (si_sdr_db(sound, clean) for sound in (noisy, filtered))
        print(f"{'SI-SDR (more: better)':<22}{before:>9.1f} dB{after:>9.1f} dB{after - before:>+9.1f} dB\n")
        titles = [f"before: SI-SDR {before:.1f} dB", f"after: SI-SDR {after:.1f} dB"]
    print(f"latency {stream.latency_ms:g} ms, {stream.latency_samples} samples, as in a live stream (removed in files)")
    print(f"speed   {speed:.0f}x real time, so one core is {100 / speed:.1f} % busy")
    print(f"listen  {args.folder / 'clean.wav'}")
    if not args.no_picture:
        caption = f"model {stream.model.name}    latency {stream.latency_ms:g} ms    {speed:.0f}x real time on one core"
        draw(args.folder / "demo.png", list(zip(titles, (noisy, filtered), strict=True)), rate, caption)
        print(f"look    {args.folder / 'demo.png'}")


if __name__ == "__main__":
    try:
        main()
    except (rtdenoise.RtdenoiseError, soundfile.LibsndfileError) as problem:
        sys.exit(f"demo: {problem}")
