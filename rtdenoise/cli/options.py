"""The options of `rtdenoise` without a subcommand: what filters files, folders, pipes and live audio."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rtdenoise.arguments import BACKENDS, VALUES

RAW_ENCODINGS = {"s16le": "PCM_16", "f32le": "FLOAT"}
Flag = argparse.BooleanOptionalAction


def add_filter(parser: argparse.ArgumentParser) -> None:
    """What sets a filter, and what the command prints."""
    add = parser.add_argument
    add(
        "--model",
        type=VALUES["model"],
        metavar="NAME",
        help="a model name (see rtdenoise models) or the path of an .onnx file (default: studio for files, else unet)",
    )
    add(
        "--low-cut",
        type=VALUES["low_cut"],
        metavar="HZ|off",
        help="also attenuate what lies below this frequency, 60 to 120 Hz, such as rumble and wind (default: off)",
    )
    add(
        "--latency",
        type=VALUES["latency"],
        default="normal",
        metavar="normal|low|economy|MS",
        help="normal: 16 ms (default); low: 8 ms (studio: 40, 24; tape: 64, 32); live also economy: up to 12 ms "
        "more for less processor time, or a target in ms, which sets mode and buffer",
    )
    add("--quiet", action=Flag, help="print only warnings and errors")
    add(
        "--json",
        action="store_true",
        help="print one JSON object per file or per live second, on standard output, or standard error beside audio",
    )


def add_session(live: Callable[..., argparse.Action]) -> None:
    """What every live session takes."""
    live(
        "--backend",
        type=VALUES["backend"],
        metavar="|".join(BACKENDS),
        help="what carries the sound (default: pipewire or pulse between two devices of that server, for less latency)",
    )
    live(
        "--control",
        action=Flag,
        help="listen on a private socket for rtdenoise ctl (default: yes)",
    )
    live(
        "--seconds",
        type=VALUES["seconds"],
        metavar="S",
        help="stop after S seconds (default: at Ctrl-C, or at the end of the input file)",
    )


def add_echo(live: Callable[..., argparse.Action]) -> None:
    live(
        "--echo-cancel",
        action=Flag,
        help="let the sound server take the echo of the loudspeakers out of the microphone, before the filter",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--in",
        dest="source",
        metavar="X",
        help="a sound file, a folder, a URL of either (s3://, gs://, https://), or - for a WAV pipe; live: mic, "
        "virtual-speaker or a device",
    )
    add(
        "--out",
        dest="target",
        metavar="Y",
        help="a sound file, a folder, a URL of either (s3://, gs://), or - for a pipe; live: speakers, virtual-mic or "
        "a device",
    )
    add_filter(parser)
    add(
        "--strength",
        type=VALUES["strength"],
        metavar="DB",
        help="attenuation limit in dB: 0 leaves the sound as it is, none sets no limit (default)",
    )
    add(
        "--profile",
        type=VALUES["profile"],
        metavar="NAME",
        help="a set of settings: call, podcast, ... (see rtdenoise profiles)",
    )
    add("--bypass", action="store_true", help="pass the sound through unfiltered, with the same latency")
    live = parser.add_argument_group("live audio").add_argument
    live(
        "--rate",
        type=VALUES["rate"],
        metavar="HZ",
        help="sample rate of the devices (default: their own) or of --raw input",
    )
    live(
        "--channels",
        type=VALUES["channels"],
        metavar="N",
        help="channels of the devices (default 1) or of interleaved --raw input",
    )
    add_echo(live)
    live(
        "--blocksize",
        type=VALUES["blocksize"],
        metavar="N",
        help="frames per callback (default: what suits the device)",
    )
    live(
        "--fixed-latency",
        "--budget",
        type=VALUES["fixed_latency"],
        metavar="MS",
        help="hold exactly this latency, even if it causes dropouts (default: the lowest that the devices allow)",
    )
    live(
        "--worker",
        type=VALUES["worker"],
        metavar="native|python",
        help="thread that runs the model (default: native, without the GIL, where possible)",
    )
    live("--tee", metavar="FILE", help="also record the output to a sound file")
    live("--monitor", action=Flag, help="with --out virtual-mic: also play it on the default output (use headphones)")
    # Whether the program need not play or record yet, and a canceller whose sink somebody else plays to.
    parser.set_defaults(app_later=False, canceller=None)
    live(
        "--app",
        metavar="NAME",
        help="move this program to the virtual speaker or microphone, and back at the end (see rtdenoise apps)",
    )
    add_session(live)
    files = parser.add_argument_group("files, folders and pipes").add_argument
    files("--jobs", type=VALUES["jobs"], metavar="N", help="number of processes for a folder or manifest (default 1)")
    files(
        "--cluster",
        metavar="dask://HOST:PORT",
        help="filter a folder or manifest on a Dask cluster that sees the same files, or a Ray one (ray://HOST:PORT); "
        "dask://local:N: N processes here",
    )
    files("--manifest", metavar="FILE", help="filter the files that a JSON Lines file names, by the key audio_filepath")
    files("--report", metavar="FILE", help="with --manifest: what became of each line, as JSON Lines; resumable")
    files(
        "--shard",
        nargs="?",
        const="auto",
        metavar="K/N",
        help="filter only share K of N of a folder or manifest, e.g. 3/16; without a value: the share of this "
        "task of a Slurm array or an indexed Kubernetes Job",
    )
    files(
        "--learn-noise",
        type=VALUES["learn_noise"],
        metavar="S",
        help="the first S seconds are noise alone: adapt to them, then filter from the start",
    )
    files(
        "--track", type=VALUES["track"], metavar="N|all", help="audio track of a film to filter (default: its default)"
    )
    files(
        "--audio-codec",
        metavar="NAME",
        help="how filtered sound is encoded in .mp4, .mkv, .m4a and the like (default: as it was)",
    )
    files(
        "--loudness",
        type=VALUES["loudness"],
        metavar="LUFS",
        help="bring each output to this loudness (EBU R 128), e.g. -16, with true peaks up to -1 dBTP",
    )
    files("--overwrite", action=Flag, help="replace an existing output; in a folder, finished ones too")
    files("--raw", choices=RAW_ENCODINGS, help="pipes carry raw samples, without a header")
