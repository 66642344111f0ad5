"""Send a recording through `rtdenoise serve`, as an agent or a telephone gateway would, in chunks of 20 ms.

    python examples/serve_example.py                                     # starts a server of its own for the clip here
    python examples/serve_example.py --url ws://127.0.0.1:8765/v1/stream --out clean.wav

Chunks are sent without waiting for answers, and each answer has as many samples as its chunk. The server delays the
sound by `latency_samples`, so that many are cut off at the front and fetched with a flush at the end.
"""

import argparse
import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import soundfile

HERE = Path(__file__).parent
CHUNK_MS = 20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", type=Path, default=HERE / "noisy.wav", help="sound file to send")
    parser.add_argument("--out", dest="target", type=Path, help="sound file to write")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--model", help="for a server of its own: name or .onnx path")
    return parser.parse_args()


@contextmanager
def server(model: str | None) -> Iterator[str]:
    """A server on a free port of this machine; gives its address, which is in the line that it prints."""
    line = [sys.executable, "-m", "rtdenoise", "serve", "--port", "0", *(["--model", model] if model else [])]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    try:
        said = process.stderr.readline()
        address = re.search(r"ws://\S+", said)
        if address is None:
            sys.exit(f"serve_example: {said.strip()}")
        yield address[0]
    finally:
        process.terminate()
        process.wait()


async def through(url: str, sound: np.ndarray, rate: int) -> np.ndarray:
    """The sound, filtered; int16 ``[samples, channels]``."""
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        await socket.send_json({"type": "hello", "protocol": 1, "rate": rate, "channels": sound.shape[1]})
        hello = await socket.receive_json()
        if hello["type"] == "error":
            sys.exit(f"serve_example: {hello['message']}")
        print(f"{hello['server']}, model {hello['model']}, {hello['latency_ms']:g} ms of latency")
        size = rate * CHUNK_MS // 1000
        chunks = [sound[at : at + size] for at in range(0, len(sound), size)]

        async def send() -> None:
            for chunk in chunks:
                await socket.send_bytes(chunk.astype("<i2").tobytes())
            await socket.send_json({"type": "flush"})

        sending = asyncio.create_task(send())
        answers = [np.frombuffer(await socket.receive_bytes(), "<i2") for _ in range(len(chunks) + 1)]
        await sending
    return np.concatenate(answers).reshape(-1, sound.shape[1])[hello["latency_samples"] :]


def main() -> None:
    args = arguments()
    sound, rate = soundfile.read(args.source, dtype="int16", always_2d=True)
    if args.url:
        clean = asyncio.run(through(args.url, sound, rate))
    else:
        with server(args.model) as url:
            clean = asyncio.run(through(url, sound, rate))
    print(f"{len(clean)} samples back for {len(sound)}")
    if args.target:
        soundfile.write(args.target, clean, rate)


if __name__ == "__main__":
    try:
        main()
    except (aiohttp.ClientError, soundfile.LibsndfileError) as problem:
        sys.exit(f"serve_example: {problem}")
