"""Loopback ports that no other process of this machine's test runs has taken.

A port is reserved by a file named after it, so that suites running in parallel never pick the same
one in the time between choosing it and binding it. Ports lie below the ephemeral range.
"""

import os
import random
import socket
import tempfile
from pathlib import Path

FIRST, LAST = 21000, 31999
_reserved: list[Path] = []


def _folder() -> Path:
    path = Path(tempfile.gettempdir()) / f"tally-ports-{os.getuid()}"
    path.mkdir(exist_ok=True)
    return path


def _owner_lives(file: Path) -> bool:
    try:
        pid = int(file.read_text() or "0")
    except (OSError, ValueError):
        return False
    return pid > 0 and Path(f"/proc/{pid}").exists()


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Reserves one port for the life of this process."""
    for _ in range(2000):
        port = random.randint(FIRST, LAST)
        file = _folder() / str(port)
        try:
            with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as out:
                out.write(str(os.getpid()))
        except FileExistsError:
            if not _owner_lives(file):
                file.unlink(missing_ok=True)
            continue
        if _bindable(port):
            _reserved.append(file)
            return port
        file.unlink(missing_ok=True)
    raise RuntimeError("no free port between 21000 and 31999")


def release_all() -> None:
    """Gives this process's reservations back."""
    while _reserved:
        _reserved.pop().unlink(missing_ok=True)
