"""The virtual speaker: an output "rtdenoise speaker", whose programs are heard cleaned.

    programs ─▶ null sink `rtdenoise_speaker` ─▶ its monitor ─▶ our input ─▶ filter ─▶ loudspeakers

Exists as long as the session that records it, like the virtual microphone, and as that is a node in PipeWire's graph
where it can be. Once it is gone, the server moves the programs that play there to its default output by itself.
"""

from __future__ import annotations

from typing import Any

from rtdenoise.live import pulse
from rtdenoise.live.devices import Device, server_bridge, server_device
from rtdenoise.live.own_modules import RATE_HZ, OwnModules, this_process, unload
from rtdenoise.live.virtual_end import VirtualEnd

SINK, DESCRIPTION = f"{pulse.OWN_PREFIX}speaker", f"{pulse.OWN_DESCRIPTION}speaker"
MONITOR = f"{SINK}.monitor"
CHANNELS = 2  # Programs play in stereo; a session of one channel hears the mean.


class VirtualSpeaker(VirtualEnd):
    """As `VirtualEnd`: an output for other programs, and the input of a session."""

    modules, side, end = OwnModules("rtdenoise.speaker", "a virtual speaker"), "input", SINK
    description, media_class = DESCRIPTION, "Audio/Sink"

    def device(self) -> Device:
        """What a session will record; nothing is made yet. Raises as the context would."""
        with self.modules.server() as client:
            self.check(client)
            server = pulse.endpoints_of(client)[0]
        end = pulse.Endpoint(-1, MONITOR, DESCRIPTION, True, RATE_HZ, CHANNELS, False, monitor=True, own=True)
        return server_device(end, server, server_bridge())

    def enter_graph(self, wanted: bool) -> None:
        self.in_graph = wanted

    @property
    def node(self) -> dict[str, str]:
        """With a volume that is heard, as a server's own null sink has it."""
        return super().node | {"monitor.channel-volumes": "true"}

    @property
    def parts(self) -> set[tuple[str, bool]]:
        return {(SINK, False), (MONITOR, True)}

    def load(self, client: Any) -> None:
        unload(client, list(self.modules.owners(client)))
        properties = self.modules.properties(DESCRIPTION, this_process(), "sink")
        sink = f"sink_name={SINK} rate={RATE_HZ} channels={CHANNELS} {properties}"
        self.modules.load(client, this_process(), [("module-null-sink", sink)])
