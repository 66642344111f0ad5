"""Files and arrays need no PortAudio."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_files_and_arrays_work_without_portaudio():
    """sounddevice fails to import where libportaudio is missing; nothing but live audio may touch it."""
    code = (
        "import sys; sys.modules['sounddevice'] = None\n"
        "import numpy as np, rtdenoise, rtdenoise.cli.main, rtdenoise.io.batch\n"
        "assert rtdenoise.denoise(np.zeros(1000, np.float32), 16_000).shape == (1000,)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
