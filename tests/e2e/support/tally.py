"""An installation of the product: its configuration file, its commands and its running processes.

Everything that depends on how commands are spelt is in this file.
"""

import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import requests

from stand import tools
from stand.ports import free_port
from stand.process import Failed, Process, scratch, wait_until

APART = ("project", "rate", "api", "notify")


def binary() -> str:
    """The binary under test: `TALLY_BIN`, else the development build."""
    path = os.environ.get("TALLY_BIN") or str(tools.REPO / "target" / "debug" / "tally")
    if not Path(path).exists():
        raise tools.Missing(f"{path} is missing: build it, or set TALLY_BIN")
    return path


def toml(value):
    """A TOML value: text, number, truth, list or inline table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(str(value))


def document(tables) -> str:
    """A TOML file from (header, pairs); header "" is the top level."""
    out = []
    for header, pairs in tables:
        if header:
            out.append(header)
        out += [f"{key} = {toml(value)}" for key, value in pairs.items() if value is not None]
        out.append("")
    return "\n".join(out)


def bitcoin_chain(node, coin, network="regtest", **more):
    """A `[[chain]]` for a node of Bitcoin's family."""
    rpc = {"url": node.url, "user": node.user, "password": f"env:{coin.upper()}_PASSWORD"}
    pairs = {"id": coin, "kind": "bitcoin", "coin": coin, "network": network, "rpc": [rpc], **more}
    return [("[[chain]]", pairs)], {f"{coin.upper()}_PASSWORD": node.password}


def ethereum_chain(node, tokens=(), chain_id=31337, **more):
    """A `[[chain]]` for anvil, with (symbol, contract, decimals) tokens."""
    pairs = {"id": "eth", "kind": "ethereum", "chain_id": chain_id, "rpc": [{"url": node.url}], **more}
    tables = [("[[chain]]", pairs)]
    for symbol, contract, decimals in tokens:
        tables.append(
            ("[[chain.token]]", {"symbol": symbol, "contract": contract, "decimals": decimals})
        )
    return tables, {}


class Result:
    """What a command printed and how it ended."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self):
        return f"exit {self.code}\n--- out ---\n{self.out}\n--- err ---\n{self.err}"


class Tally:
    """One installation in a folder of its own, all listeners on free loopback ports."""

    def __init__(self, chains=(), log=None, publish=None, venues=None, name="tally", allow_private=True):
        self.home = scratch(name)
        self.data = self.home / "data"
        self.config = self.home / "tally.toml"
        self.http_port, self.admin_port, self.metrics_port = free_port(), free_port(), free_port()
        self.http = f"http://127.0.0.1:{self.http_port}"
        self.admin = f"http://127.0.0.1:{self.admin_port}"
        self.metrics = f"http://127.0.0.1:{self.metrics_port}"
        self.env = {
            "TALLY_MASTER_KEY": secrets.token_hex(32),
            "TALLY_ADMIN_TOKEN": secrets.token_hex(16),
        }
        self.log = log or {"kind": "embedded"}
        self.publish = publish
        self.venues = venues
        self.allow_private = allow_private
        self.chain_ids = []
        self.chain_tables = []
        for tables, env in chains:
            self.chain_tables += tables
            self.env |= env
            self.chain_ids.append(tables[0][1]["id"])
        self.overrides = {}
        self.processes = {}
        self.write()

    # -- configuration ---------------------------------------------------------------------
    def tables(self, data=None, ports=None):
        http, admin, metrics = ports or (self.http_port, self.admin_port, self.metrics_port)
        out = [
            ("", {"public_url": self.http, "data_dir": str(data or self.data)}),
            ("[log]", self.log),
        ]
        if self.publish:
            out.append(("[publish]", {"nats": self.publish}))
        out += [
            ("[secrets]", {"master": "env:TALLY_MASTER_KEY"}),
            ("[http]", {"listen": f"127.0.0.1:{http}"}),
            ("[admin]", {"listen": f"127.0.0.1:{admin}", "token": "env:TALLY_ADMIN_TOKEN"}),
            ("[metrics]", {"listen": f"127.0.0.1:{metrics}"}),
            ("[delivery]", {"allow_private": self.allow_private}),
            *self.chain_tables,
            ("[rates]", {"poll": "1s", "allow_single_source": True}),
        ]
        if self.venues:
            for venue in ("kraken", "coinbase", "ecb"):
                out.append(("[[rates.feed]]", {"venue": venue, "url": self.venues.url}))
        return out

    def write(self, path=None, **kwargs):
        (path or self.config).write_text(document(self.tables(**kwargs)))

    # -- commands --------------------------------------------------------------------------
    def run(self, *args, config=None, timeout=60, env=None):
        """Runs one command to its end, whatever that is."""
        done = subprocess.run(
            [binary(), *map(str, args), "--config", str(config or self.config)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "NO_COLOR": "1", **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            cwd=self.home,
        )
        return Result(done)

    def json(self, *args, **kwargs):
        """Runs a command with `--json` and reads its answer."""
        result = self.run(*args, "--json", **kwargs)
        if result.code != 0:
            raise Failed(f"tally {' '.join(map(str, args))}: {result!r}")
        return json.loads(result.out)

    def create_merchant(self, name="Test shop"):
        return int(self.json("merchant", "create", "--name", name)["merchant_id"])

    def create_key(self, merchant, face="deepay"):
        return self.json("key", "create", "--merchant", merchant, "--face", face)["api_key"]

    def add_wallet(self, merchant, chain, account):
        """Adds a wallet from an account-level extended public key; answers what was printed."""
        args = ["wallet", "add", "--merchant", merchant, "--chain", chain]
        if account.kind != "eth":
            args += ["--type", account.kind]
        return self.json(*args, account.xpub)

    # -- processes -------------------------------------------------------------------------
    def start(self, *commands, wait=True):
        """Starts `up`, or the commands given, each in a process of its own with its own data folder."""
        if not commands:
            self._spawn("up", ["up"], self.config)
        for words in commands:
            name = "-".join(words.split())
            path = self.home / f"{name}.toml"
            if not path.exists():
                mine = words == "api"
                ports = None if mine else (free_port(), free_port(), free_port())
                self.write(path, data=self.home / f"data-{name}", ports=ports)
            self._spawn(name, words.split(), path)
        if wait:
            self.wait_ready()
        return self

    def start_apart(self, wait=True):
        """Every service in its own process."""
        watchers = [f"watch {chain}" for chain in self.chain_ids]
        return self.start(*watchers, *APART, wait=wait)

    def _spawn(self, name, words, config):
        argv = [binary(), *words, "--config", config]
        self.processes[name] = Process(name, argv, self.home, self.env).start()

    def wait_ready(self, timeout=45):
        def ready():
            dead = [n for n, p in self.processes.items() if not p.alive()]
            if dead:
                raise Failed(f"ended: {dead}\n{self.tail()}")
            return requests.get(f"{self.http}/readyz", timeout=5).status_code == 200

        wait_until("the installation to be ready", ready, timeout, log=self.tail)
        return self

    def wait_chains(self, chains, timeout=45):
        """Waits until the watchers of these chains have reported, so that their coins are offered."""

        def usable():
            known = requests.get(f"{self.http}/readyz", timeout=5).json()["chains"]
            return all(known[chain]["usable"] for chain in chains)

        wait_until(f"{list(chains)} to be watched", usable, timeout, log=self.tail)

    def wait_height(self, chain, height, timeout=30):
        """Waits until the orders know a chain up to a height."""

        def there():
            return (requests.get(f"{self.http}/readyz", timeout=5).json()["chains"][chain]["tip"] or 0) >= height

        wait_until(f"{chain} to be folded up to {height}", there, timeout, log=self.tail)

    def kill(self):
        """SIGKILL of every process."""
        for process in self.processes.values():
            process.kill()

    def stop(self):
        """SIGTERM of every process; answers their exit codes."""
        codes = {name: process.stop() for name, process in self.processes.items()}
        self.processes.clear()
        return codes

    def close(self, keep=False):
        self.stop()
        if not keep:
            shutil.rmtree(self.home, ignore_errors=True)

    def tail(self, lines=60):
        return "\n".join(f"--- {n} ---\n{p.tail(lines)}" for n, p in self.processes.items())

    def metric(self, name, **labels):
        """The value of one sample, else None."""
        text = requests.get(f"{self.metrics}/metrics", timeout=10).text
        for line in text.splitlines():
            if line.startswith(name) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                if line[len(name)] in " {":
                    return float(line.rsplit(" ", 1)[1])
        return None
