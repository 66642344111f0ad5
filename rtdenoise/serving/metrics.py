"""What the server counts, for Prometheus. One registry a server, never the process-wide one."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

ANSWER_BUCKETS_S = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.064, 0.128, 0.5, 2.0)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one server."""

    def __init__(self, version: str, model: str, places: int):
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("rtdenoise", "What is served", registry=registry).info({"version": version, "model": model})
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        gauge("rtdenoise_places", "Channels that may be filtered at once").set(places)
        self.places_taken = gauge("rtdenoise_places_taken", "Channels that are filtered now")
        self.connections = gauge("rtdenoise_connections", "TCP connections, whatever they do")
        self.sound_s = counter("rtdenoise_sound_seconds", "Sound filtered, each channel on its own")
        self.faulty_samples = counter("rtdenoise_faulty_samples", "Input samples that were no numbers, taken as zero")
        self.held_back_s = counter("rtdenoise_held_back_seconds", "Time that messages of fast clients waited")
        self.ends = Counter("rtdenoise_sessions", "Sessions that have ended, by how", ["end"], registry=registry)
        self.refusals = Counter("rtdenoise_refusals", "Requests refused, by why", ["code"], registry=registry)
        self.answers = Histogram(
            "rtdenoise_answer_seconds",
            "From a message of sound, in turn, to its answer handed to the network",
            buckets=ANSWER_BUCKETS_S,
            registry=registry,
        )

    def page(self) -> bytes:
        """All of them in Prometheus' text format."""
        page: bytes = generate_latest(self._registry)
        return page
