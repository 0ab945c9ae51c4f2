"""Headless Chromium, driven over its DevTools protocol."""

import base64
import itertools
import json
import shutil
from pathlib import Path

import requests
import websocket

from stand import tools
from stand.ports import free_port
from stand.process import Process, scratch, wait_until

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,1200",
)


class Browser:
    """One page of a fresh browser."""

    def __init__(self):
        self.home = scratch("chromium")
        self.port = free_port()
        argv = [
            tools.chromium(),
            *FLAGS,
            f"--user-data-dir={self.home}/profile",
            f"--remote-debugging-port={self.port}",
            "--remote-allow-origins=*",
            "about:blank",
        ]
        self.process = Process("chromium", argv, self.home)
        self.socket = None
        self.ids = itertools.count(1)
        self.loads = 0
        self.errors = []

    def start(self):
        self.process.start()
        self.process.wait_ready(lambda: self._target(), 30)
        self.socket = websocket.create_connection(self._target(), timeout=30)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def _target(self):
        pages = requests.get(f"http://127.0.0.1:{self.port}/json/list", timeout=2).json()
        return next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page")

    def call(self, method, **params):
        """One command; events that arrive meanwhile are noted."""
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _note(self, event):
        params = event.get("params", {})
        if event.get("method") == "Page.frameNavigated" and "parentId" not in params["frame"]:
            self.loads += 1
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"])

    def open(self, url):
        self.call("Page.navigate", url=url)
        wait_until(url, lambda: self.run("document.readyState") == "complete", 20)

    def run(self, code):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{code}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self):
        """What a reader sees."""
        return self.run("document.body.innerText")

    def click(self, label):
        """Clicks the visible button or link whose text holds `label`, as a person would."""
        code = f"""(() => {{
          const wanted = {json.dumps(label.lower())};
          const all = [...document.querySelectorAll('button, a, input[type=submit], label, [role=button]')];
          const hit = all.find(e => e.offsetParent !== null && !e.disabled &&
            ((e.innerText || '') + ' ' + (e.value || '')).toLowerCase().includes(wanted));
          if (!hit) return null;
          hit.scrollIntoView({{block: 'center'}});
          const box = hit.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        x, y = wait_until(f"a button {label!r}", lambda: self.run(code), 20, log=self.text)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def stop(self):
        if self.socket:
            self.socket.close()
        self.process.stop()
        shutil.rmtree(self.home, ignore_errors=True)
