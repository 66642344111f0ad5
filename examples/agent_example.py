"""A voice agent of Pipecat whose ears are filtered, and a caller, both on this machine's loopback.

    pip install 'pipecat-ai' websockets
    python examples/agent_example.py --out heard.wav          # the clip of this folder, as the agent hears it

The agent only says back what it hears, where another one would have speech recognition, a language model and a voice.
What matters is one argument: `audio_in_filter=DenoiseFilter()` filters what comes in before anything else sees it.
"""

import argparse
import asyncio
import socket
import sys
from pathlib import Path

import numpy as np
import soundfile
import websockets
from loguru import logger
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.server import (
    SingleClientWebsocketServerParams,
    SingleClientWebsocketServerTransport,
)
from pipecat.workers.runner import WorkerRunner

from rtdenoise.integrations.pipecat import DenoiseFilter

HERE, HOST = Path(__file__).parent, "127.0.0.1"
CHUNK_MS = 20


class Echo(FrameProcessor):
    """Says what it hears."""

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


async def agent(port: int, rate: int, model: dict) -> None:
    """Until it is cancelled."""
    params = SingleClientWebsocketServerParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        audio_in_filter=DenoiseFilter(**model),
        serializer=ProtobufFrameSerializer(),
    )
    transport = SingleClientWebsocketServerTransport(params, HOST, port)
    pipeline = Pipeline([transport.input(), Echo(), transport.output()])
    rates = PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate)
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(PipelineWorker(pipeline, params=rates))
    await runner.run()


async def call(port: int, sound: np.ndarray, rate: int) -> np.ndarray:
    """Speak to the agent at the pace of sound; returns what it says."""
    language, heard, wanted = ProtobufFrameSerializer(), [], sound.nbytes
    async with await connected(port) as line:

        async def speak() -> None:
            size = rate * CHUNK_MS // 1000
            for at in range(0, len(sound), size):
                data = sound[at : at + size].tobytes()
                await line.send(await language.serialize(OutputAudioRawFrame(data, rate, 1)))
                await asyncio.sleep(CHUNK_MS / 1000)
            while True:  # so that the end of what was said comes out, too
                await line.send(await language.serialize(OutputAudioRawFrame(bytes(2 * size), rate, 1)))
                await asyncio.sleep(CHUNK_MS / 1000)

        speaking = asyncio.create_task(speak())
        while sum(map(len, heard)) < wanted:
            frame = await language.deserialize(await line.recv())
            if isinstance(frame, InputAudioRawFrame):
                heard.append(frame.audio)
        speaking.cancel()
    return np.frombuffer(b"".join(heard)[:wanted], "<i2")


async def connected(port: int) -> websockets.ClientConnection:
    """A connection, as soon as the agent listens."""
    while True:
        try:
            return await websockets.connect(f"ws://{HOST}:{port}")
        except OSError:
            await asyncio.sleep(0.05)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--in", dest="source", type=Path, default=HERE / "noisy.wav", help="what the caller says")
    parser.add_argument("--out", dest="target", type=Path, help="sound file for what the agent says")
    parser.add_argument("--seconds", type=float, default=60, help="of the sound at most")
    parser.add_argument("--model", help="name or .onnx path")
    return parser.parse_args()


async def main(args: argparse.Namespace) -> None:
    sound, rate = soundfile.read(args.source, dtype="int16", always_2d=True)
    sound = np.ascontiguousarray(sound[: int(args.seconds * rate), 0])
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    agent_runs = asyncio.create_task(agent(port, rate, {"model": args.model} if args.model else {}))
    try:
        heard = await call(port, sound, rate)
    finally:
        agent_runs.cancel()
        await asyncio.wait([agent_runs])
    level = [20 * np.log10(np.sqrt(np.mean((x / 32768.0) ** 2)) + 1e-9) for x in (sound, heard)]
    print(f"{len(sound) / rate:.1f} s at {rate} Hz: said at {level[0]:.1f} dBFS, heard and said back at {level[1]:.1f}")
    if args.target:
        soundfile.write(args.target, heard, rate)


if __name__ == "__main__":
    logger.remove()  # Pipecat tells all it does
    logger.add(sys.stderr, level="WARNING")
    asyncio.run(main(arguments()))
