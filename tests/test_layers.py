"""Dependencies go one way: a module imports only what stands before it, in its own room or in a room below.

Imports count wherever they stand, within functions too, and so do the names of modules in strings, by which they are
loaded on demand. What the type checker alone sees does not, nor a program of a process of its own (``-m NAME``).
"""

from __future__ import annotations

import ast
from itertools import chain, pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"rtdenoise": ROOT / "rtdenoise", "rtdenoise_bench": ROOT / "bench" / "rtdenoise_bench"}
PUBLIC = "rtdenoise.__init__"  # the names that users import: they reach into every room, so no room may use them

ROOMS = {  # lowest first: its modules, each imports only those before it
    "rtdenoise": "errors arguments geometry signals home toml_dataclass profiles console",
    "rtdenoise.control": "messages sockets server client",
    "rtdenoise.native": """
        code_cache machine_code bitcode arguments compilation panels instructions vector_moves vector_products
        intrinsics functions fft elementwise tensor_kernels""",
    "rtdenoise.model": """
        wire weights onnx_runtime contract contract_file external registry native_session
        graph_file placement program operators compiled_steps""",
    "rtdenoise.core": "stft frames low_cut adjustments denoiser compiled_denoiser hop_denoiser async_denoiser",
    "rtdenoise.io": """
        atomic scratch remote descriptors byte_views pcm chunks flac ogg mp3 metadata pipes segments sound_sink
        sound_source media media_source media_tracks media_sink loudness ends pipeline process_pool
        executors dask_cluster ray_cluster cluster pieces jobs shard batch report manifest files""",
    "rtdenoise.live": """
        compilation realtime program_end background environment client_library pulse_client server portaudio pulse ring
        stats devices
        drift callback trace tap recorder own_modules programs virtual_end virtual_mic virtual_speaker
        audio_streams pipewire_library pipewire graph_canceller echo_canceller
        streams pulse_library pulse_connection pulse_callback pulse_streams
        pipewire_filter graph_callback graph_links own_nodes graph_streams
        backends carrier player file_ends watch delay hop hop_loop worker prebuilt settings session remote
        microphones""",
    "rtdenoise.panel": "access memory report history preferences ends offer engine server desktop browser",
    "rtdenoise.serving": "protocol limits access metrics session door server",
    "rtdenoise.integrations": "aiortc livekit pipecat",
    "rtdenoise.cli": """
        keys config ends profiles listening options request archive ctl panel serve service devices apps models
        virtual_mic doctor live_spectrogram live_view live call""",
    "rtdenoise.training": """
        linear_prediction metrics muon distributed spectra perceptual_loss losses
        data.augment data.whisper data.material data.clips data.synthetic_noise data.tape_noise data.sampling data.mixer
        data.tape_mixer recipe data.mix data.room_simulation data.devset
        validate networks.deep_filter networks.gru_kernel networks.memory networks.crced networks.unet
        networks.masker networks warm_start trainer allocator train
        onnx_export.graph onnx_export.memory_graph onnx_export.crced_graph onnx_export.unet_graph
        onnx_export.masker_graph onnx_export.export
        scoring.residue scoring.cards scoring.score_tables scoring.comparison scoring.noise_influence scoring.dnsmos
        scoring.pair_scores scoring.spectrograms scoring.systems scoring.tape_scores scoring.evaluate""",
    "rtdenoise_bench": """
        testbed.servers testbed.stressors testbed.strangers
        measure.times measure.correlation measure.recordings measure.start measure.latency measure.jack_probe
        measure.graph_probe measure.chromium measure.probes measure.clock
        report.readme report.machine report.table
        measure.serving
        measure.loopback testbed.fault_injection testbed.busy_model measure.files testbed.traced_callback
        measure.exactness measure.latency_breakdown testbed.harness testbed.subject measure.stages measure.peers
        measure.cost measure.matrix measure.live measure.echo measure.graph_stress
        measure.stress
        measure.soak measure.load
        report.report report.compare report.tables report.advice report.charts report.terminal report.markdown
        measure.measure report.html commands cli __main__""",
    "command": "rtdenoise.cli.main rtdenoise.__main__",
}
_FILTER = ["rtdenoise", "rtdenoise.control", "rtdenoise.native", "rtdenoise.model", "rtdenoise.core", "rtdenoise.io"]
BELOW = {
    **{room: _FILTER[:k] for k, room in enumerate(_FILTER)},
    "rtdenoise.live": _FILTER,
    "rtdenoise.panel": [*_FILTER, "rtdenoise.live"],
    "rtdenoise.serving": _FILTER,
    "rtdenoise.integrations": _FILTER,
    "rtdenoise.cli": [*_FILTER, "rtdenoise.live", "rtdenoise.panel", "rtdenoise.serving"],
    "rtdenoise.training": _FILTER,
    "rtdenoise_bench": [*_FILTER, "rtdenoise.live", "rtdenoise.training"],
    "command": [room for room in ROOMS if room not in ("rtdenoise.integrations", "rtdenoise_bench", "command")],
}
MODULES = {
    room: names.split() if room == "command" else [f"{room}.{name}" for name in names.split()]
    for room, names in ROOMS.items()
}
ALL = [module for modules in MODULES.values() for module in modules]
MAY_USE_PUBLIC_NAMES = MODULES["rtdenoise_bench"]  # a guest of the package, as users are


def module_of(path: Path, package: str) -> str:
    name = ".".join([package, *path.relative_to(FOLDERS[package]).with_suffix("").parts])
    return name.removesuffix(".__init__") if name.removesuffix(".__init__") in ALL else name


FILES = {module_of(path, package): path for package, folder in FOLDERS.items() for path in folder.rglob("*.py")}


def imports(text: str, module: str) -> set[str]:
    """Our modules that this source of ``module`` imports; `PUBLIC` for a name that the package itself offers."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    package = module if FILES.get(module, Path()).name == "__init__.py" else module.rpartition(".")[0]
    lists = [node.elts for node in ast.walk(tree) if isinstance(node, ast.List)]
    programs = [b for a, b in chain(*map(pairwise, lists)) if isinstance(a, ast.Constant) and a.value == "-m"]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {_nearest(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            names = [alias.name for alias in node.names if alias.name != "__version__"]
            found |= {_nearest(f"{home}.{name}") for name in names}
        elif isinstance(node, ast.Constant) and node.value in ALL and node not in programs:
            found.add(str(node.value))
    return found - {"", module}


def _nearest(name: str) -> str:
    """The module that a dotted name means or lies in."""
    if name.split(".")[0] not in FOLDERS:
        return ""
    while name not in ALL and "." in name:
        name = name.rpartition(".")[0]
    return name if name in ALL else PUBLIC


def wrong(text: str, module: str) -> set[str]:
    """Imports that go against the order."""
    room = next(room for room, modules in MODULES.items() if module in modules)
    before = MODULES[room][: MODULES[room].index(module)]
    below = [m for lower in BELOW[room] for m in MODULES[lower]]
    public = [PUBLIC] if module in MAY_USE_PUBLIC_NAMES else []
    return imports(text, module) - {*before, *below, *public}


@pytest.mark.parametrize("module", ALL)
def test_arrows_go_one_way(module):
    assert not wrong(FILES[module].read_text(encoding="utf-8"), module)


def test_every_module_has_its_place():
    fronts = {name for name in FILES if name.endswith(".__init__")}
    assert set(FILES) - fronts == set(ALL)


def test_the_front_of_a_room_holds_nothing():
    """What `rtdenoise.live` and the like would import is loaded with every module of theirs, and in no order."""
    for front, file in FILES.items():
        if front.endswith(".__init__") and front != PUBLIC:
            assert not imports(file.read_text(encoding="utf-8"), front)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("rtdenoise.geometry", "import rtdenoise.live.ring"),
        ("rtdenoise.core.stft", "def f():\n    from rtdenoise import LiveDenoiser"),
        ("rtdenoise.core.stft", "import rtdenoise"),
        ("rtdenoise.core.stft", "from rtdenoise import *"),
        ("rtdenoise.geometry", "from .live import ring"),
        ("rtdenoise.geometry", "from . import denoiser"),
        ("rtdenoise.live.ring", "from ..training import mixer"),
        ("rtdenoise.live.ring", "from rtdenoise.live import session as later"),
        ("rtdenoise.live.session", "import_module('rtdenoise.training.train')"),
        ("rtdenoise.training.data.mixer", "class A:\n    def f(self):\n        import rtdenoise.live.session as s"),
        ("rtdenoise.training.networks.unet", "from rtdenoise.training.networks import build"),
        ("rtdenoise.training.scoring.tape_scores", "from rtdenoise.training.scoring.evaluate import evaluate"),
        ("rtdenoise.core.denoiser", "import rtdenoise_bench"),
        ("rtdenoise_bench.commands", "from rtdenoise.cli.main import main"),
        ("rtdenoise.core.denoiser", "import os, rtdenoise.cli.main"),
    ],
)
def test_an_import_against_the_order_is_seen(module, text):
    assert wrong(text, module)


@pytest.mark.parametrize(
    "text", ["if TYPE_CHECKING:\n    from rtdenoise.cli.main import main", "run([python, '-m', 'rtdenoise.cli.main'])"]
)
def test_types_and_other_processes_are_no_imports(text):
    assert not wrong(text, "rtdenoise.geometry")
