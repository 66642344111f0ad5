"""What may be chosen in the panel for the ends of its session, beside the names of devices, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rtdenoise.arguments import VIRTUAL_MIC, VIRTUAL_SPEAKER

if TYPE_CHECKING:
    from rtdenoise.live.devices import Device
    from rtdenoise.live.virtual_mic import VirtualMicrophone
    from rtdenoise.live.virtual_speaker import VirtualSpeaker

DEFAULT = ""  # as a choice: the system's


def with_other_end(before: Mapping[str, str], chosen: dict[str, str]) -> dict[str, str]:
    """``chosen``, and the output that goes with a new input unless that is chosen too: what programs play is to be
    heard, and a microphone to be sent, or it would howl."""
    if "output" not in chosen and "input" in chosen:
        speaker, spoke = (ends["input"] == VIRTUAL_SPEAKER for ends in (chosen, before))
        if speaker and before["output"] == VIRTUAL_MIC:
            return chosen | {"output": DEFAULT}
        if spoke and not speaker and before["output"] == DEFAULT:
            return chosen | {"output": VIRTUAL_MIC}
    return chosen


def source_of(choice: str) -> tuple[str | VirtualSpeaker | None, Device]:
    """What a session takes for a chosen input, and the device that it is. Raises as both do where there is none."""
    from rtdenoise.live.devices import find_device
    from rtdenoise.live.virtual_speaker import VirtualSpeaker

    if choice == VIRTUAL_SPEAKER:
        speaker = VirtualSpeaker()
        return speaker, speaker.device()
    return choice or None, find_device(choice or None, "input")


def target_of(choice: str, monitor: bool) -> str | VirtualMicrophone | None:
    """The same for an output; ``monitor``: also play the virtual microphone."""
    from rtdenoise.live.virtual_mic import VirtualMicrophone

    return VirtualMicrophone(monitor) if choice == VIRTUAL_MIC else choice or None
