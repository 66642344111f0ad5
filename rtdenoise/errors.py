"""What can go wrong, in one place. Every message is one line: what happened; what to do next."""


class RtdenoiseError(Exception):
    """A problem a user can act on. The command line prints it as one line and ends with ``exit_code``."""

    exit_code = 1


class UsageError(RtdenoiseError, ValueError):
    """The request itself makes no sense (a bad option, a missing file, an unknown model)."""

    exit_code = 2


class ModelError(RtdenoiseError):
    """A model file that is broken, does not keep the contract, or misbehaves when run."""


class AudioFileError(RtdenoiseError):
    """A sound file that cannot be read or written."""


class DeviceError(RtdenoiseError):
    """A sound device or server that is missing, busy, or that refuses the request."""
