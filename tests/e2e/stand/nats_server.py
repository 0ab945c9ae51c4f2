"""NATS servers with JetStream: one, or a cluster of three."""

import shutil
import urllib.request

from . import tools
from .ports import free_port
from .process import Process, scratch


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
