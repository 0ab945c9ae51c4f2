"""Where the installed programs are: what `tests/nodes/install.sh` put into the cache, or what `PATH` has."""

import os
import shutil
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]


def cache() -> Path:
    """The folder outside git that holds every installed test program."""
    return Path(os.environ.get("TALLY_TEST_CACHE") or REPO / "target" / "test-cache")


class Missing(Exception):
    """A program that `tests/nodes/install.sh` should have installed is not there."""


def npm(project: str, relative: str) -> Path:
    """A file of an npm project in the cache."""
    path = cache() / "npm" / project / "node_modules" / relative
    if not path.exists():
        raise Missing(f"{path} is missing: run tests/nodes/install.sh {project}")
    return path


def program(name: str, *candidates: Path) -> str:
    """The first candidate that exists, else the program of that name on `PATH`."""
    for candidate in candidates:
        if candidate.exists():
            return str(candidate)
    found = shutil.which(name)
    if not found:
        raise Missing(f"program {name} is missing: run tests/nodes/install.sh")
    return found


def anvil() -> str:
    base = cache() / "npm" / "ethereum" / "node_modules" / "@foundry-rs"
    return program("anvil", *sorted(base.glob("anvil-linux-*/bin/anvil")))


def nats_server() -> str:
    return program("nats-server", cache() / "venv" / "bin" / "nats-server")


def old_nats_server() -> str:
    """Debian's 2.9, which knows no atomic batches; never the one on `PATH`."""
    path = cache() / "deb" / "root" / "usr" / "sbin" / "nats-server"
    if not path.exists():
        path = path.parent.parent / "bin" / "nats-server"
    if not path.exists():
        raise Missing(f"{path} is missing: run tests/nodes/install.sh debs")
    return str(path)


def promtool() -> str:
    return program("promtool", cache() / "deb" / "root" / "usr" / "bin" / "promtool")


def chromium() -> str:
    return program("chromium")
