"""A child process: started in its own folder with its output in a file, stopped by its pid.

`setpriv --pdeathsig` makes the kernel end the child when the thread that started it ends, so a killed
test run leaves nothing behind. Start processes from the main thread only.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


class Failed(AssertionError):
    """A process did not do what it was waited for; carries the end of its output."""


def wait_until(what, probe, timeout=30.0, every=0.05, log=None):
    """Polls `probe` until it answers something true and returns that; errors count as not yet."""
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = probe()
            if value:
                return value
            last = value
        except Exception as error:  # noqa: BLE001 - any error means "not yet"
            last = error
        if time.monotonic() > end:
            tail = f"\n--- log ---\n{log()}" if log else ""
            raise Failed(f"waited {timeout:.0f} s for {what}; last: {last!r}{tail}")
        time.sleep(every)


def scratch(name: str) -> Path:
    """A fresh temporary folder."""
    return Path(tempfile.mkdtemp(prefix=f"tally-{name}-"))


class Process:
    """One child process."""

    def __init__(self, name, argv, home: Path, env=None):
        self.name = name
        self.argv = [str(part) for part in argv]
        self.home = home
        self.env = env
        self.child = None
        self.log_path = home / f"{name}.log"

    def start(self):
        self.home.mkdir(parents=True, exist_ok=True)
        argv = self.argv
        setpriv = shutil.which("setpriv")
        if setpriv:
            argv = [setpriv, "--pdeathsig", "KILL", "--", *argv]
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env={**os.environ, "NO_COLOR": "1", **(self.env or {})},
            )
        return self

    @property
    def pid(self):
        return self.child.pid if self.child else None

    def alive(self):
        return self.child is not None and self.child.poll() is None

    def wait_ready(self, probe, timeout=60.0):
        """Waits until `probe` is true; fails at once when the process ends."""

        def check():
            if not self.alive():
                return "ended"
            return probe()

        if wait_until(f"{self.name} to be ready", check, timeout, log=self.tail) == "ended":
            code = self.child.poll() if self.child else None
            raise Failed(f"{self.name} ended with {code}\n{self.tail()}")

    def signal(self, number):
        if self.alive():
            os.kill(self.child.pid, number)

    def kill(self):
        """SIGKILL, then waits for the end."""
        self.signal(signal.SIGKILL)
        if self.child:
            self.child.wait()

    def stop(self, timeout=15.0):
        """SIGTERM, then SIGKILL after `timeout`; returns the exit code."""
        if self.child is None:
            return None
        self.signal(signal.SIGTERM)
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.child.returncode

    def tail(self, lines=60):
        try:
            text = self.log_path.read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])
