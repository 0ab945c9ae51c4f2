"""NATS servers with JetStream: one, or a cluster of three."""

import json
import shutil
import signal
import urllib.request

from . import tools
from .ports import free_port
from .process import Process, scratch, wait_until


class NatsServer:
    """One server or three. Every acknowledged write is on disk (`sync_interval: always`)."""

    def __init__(self, nodes=1, port=None, monitor_port=None, binary=None, sync="always", home=None):
        self.home = home or scratch("nats")
        self.ports = [port or free_port()] + [free_port() for _ in range(nodes - 1)]
        self.monitors = [monitor_port or free_port()] + [free_port() for _ in range(nodes - 1)]
        self.routes = [free_port() for _ in range(nodes)]
        self.sync = sync
        self.processes = []
        for index in range(nodes):
            folder = self.home / f"n{index}"
            folder.mkdir(parents=True)
            config = folder / "nats.conf"
            config.write_text(self._config(index, folder))
            argv = [binary or tools.nats_server(), "-c", config]
            self.processes.append(Process(f"nats-{index}", argv, folder))

    def _config(self, index, folder):
        sync = f"sync_interval: {self.sync}" if self.sync else ""
        text = f"""server_name: n{index}
listen: "127.0.0.1:{self.ports[index]}"
http: "127.0.0.1:{self.monitors[index]}"
jetstream {{ store_dir: "{folder}/js"; max_memory_store: 256MB; max_file_store: 4GB; {sync} }}
"""
        if len(self.ports) > 1:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.routes)
            text += f'cluster {{ name: stand; listen: "127.0.0.1:{self.routes[index]}"; routes: [{routes}] }}\n'
        return text

    @property
    def url(self):
        return self.urls[0]

    @property
    def urls(self):
        return [f"nats://127.0.0.1:{port}" for port in self.ports]

    @property
    def monitor(self):
        return f"http://127.0.0.1:{self.monitors[0]}"

    @property
    def monitor_urls(self):
        """Where each server answers monitoring requests."""
        return [f"http://127.0.0.1:{port}" for port in self.monitors]

    def start(self):
        for process in self.processes:
            process.start()
        return self

    def ready(self):
        for index, process in enumerate(self.processes):
            process.wait_ready(lambda i=index: self._healthy(i))
        return self

    def _healthy(self, index):
        # 2.9 has /healthz too; in a cluster it is ok only once JetStream has a leader
        url = f"http://127.0.0.1:{self.monitors[index]}/healthz"
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200

    def kill(self, index=0):
        """SIGKILL of one server."""
        self.processes[index].kill()

    def kill_all(self):
        """SIGKILL of every server, before any of them notices."""
        for process in self.processes:
            process.signal(signal.SIGKILL)
        for process in self.processes:
            process.kill()

    def restart_all(self):
        """Starts every killed server again, and waits for all."""
        self.start().ready()

    def wipe(self, index):
        """Removes what a killed server has stored."""
        shutil.rmtree(self.home / f"n{index}" / "js")

    def wait_current(self, stream, timeout=60):
        """Waits until every replica of a stream has what its leader has."""

        def current():
            query = "jsz?streams=true&acc=$G&leader_only=false"
            for url in self.monitor_urls:
                with urllib.request.urlopen(f"{url}/{query}", timeout=2) as answer:
                    accounts = json.load(answer).get("account_details", [])
                for found in (one for account in accounts for one in account.get("stream_detail", [])):
                    cluster = found.get("cluster", {})
                    if found["name"] != stream or cluster.get("leader") != found_server(url):
                        continue
                    return all(replica["current"] and not replica.get("offline") for replica in cluster["replicas"])
            return False

        def found_server(url):
            with urllib.request.urlopen(f"{url}/varz", timeout=2) as answer:
                return json.load(answer)["server_name"]

        wait_until(f"every replica of {stream} to be current", current, timeout)

    def restart(self, index=0):
        """Starts a killed server again, on the same store, and waits for it."""
        process = self.processes[index]
        if process.alive():
            process.stop()
        process.start()
        process.wait_ready(lambda: self._healthy(index))

    def stop(self):
        for process in self.processes:
            process.stop()
        shutil.rmtree(self.home, ignore_errors=True)
