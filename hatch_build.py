"""Has the package carry compiled functions, so that a first start takes a second instead of several."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedCode(BuildHookInterface):
    """Runs `rtdenoise.live.prebuilt` before the wheel is put together, in an environment that has what we depend on."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """As hatchling calls it."""
        with tempfile.TemporaryDirectory() as nothing_kept:
            environment = os.environ | {"NUMBA_CACHE_DIR": nothing_kept}
            command = [sys.executable, "-m", "rtdenoise.live.prebuilt"]
            failed = subprocess.run(command, cwd=self.root, env=environment).returncode
        if failed:
            self.app.display_warning("nothing could be compiled, so first starts will take some seconds longer")
        build_data["artifacts"].append("/rtdenoise/native/shipped/*.bc")
