"""The panel among the desktop's programs: one entry and one icon, as freedesktop.org has them."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

from rtdenoise.errors import DeviceError, UsageError
from rtdenoise.io.atomic import write_text

MARK = "X-Made-By=rtdenoise panel --install"
ENTRY = """\
[Desktop Entry]
Type=Application
Name=rtdenoise
GenericName=Noise filter for the microphone
GenericName[de]=Rauschfilter fürs Mikrofon
Comment=See, hear and steer the noise filter
Comment[de]=Den Rauschfilter sehen, hören und steuern
Exec={command} -m rtdenoise panel
Icon=rtdenoise
Categories=AudioVideo;Audio;
Terminal=false
{mark}
"""


def entry_path() -> Path:
    return _data() / "applications" / "rtdenoise.desktop"


def icon_path() -> Path:
    return _data() / "icons" / "hicolor" / "scalable" / "apps" / "rtdenoise.svg"


def install() -> list[Path]:
    """Write both; `UsageError` rather than replace an entry that is not ours."""
    entry, icon = _ours(), icon_path()
    for path in (entry, icon):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(icon, (files("rtdenoise.panel") / "page" / "icon.svg").read_text(encoding="utf-8"))
    write_text(entry, ENTRY.format(command=_quoted(sys.executable), mark=MARK))
    return [entry, icon]


def remove() -> list[Path]:
    """Remove what `install` wrote, as far as it is there."""
    found = [path for path in (_ours(), icon_path()) if path.exists()]
    for path in found:
        path.unlink()
    return found


def _data() -> Path:
    if sys.platform != "linux":
        raise DeviceError("desktop entries are for Linux; start `rtdenoise panel` from a terminal here")
    named = os.environ.get("XDG_DATA_HOME", "")
    if named.startswith("/"):
        return Path(named)
    home = os.path.expanduser("~")
    if not home.startswith("/"):
        raise DeviceError("this user has no home folder for a desktop entry; set HOME")
    return Path(home) / ".local" / "share"


def _ours() -> Path:
    path = entry_path()
    if path.exists() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{path} was not made by this command; move it away first")
    return path


def _quoted(path: str) -> str:
    """As the specification of desktop entries has it: quoted for the command, then once more as a text of the file."""
    for character in '\\"`$':
        path = path.replace(character, "\\" + character)
    return '"' + path.replace("\\", "\\\\").replace("%", "%%") + '"'
