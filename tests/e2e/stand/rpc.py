"""JSON-RPC over HTTP, for every node of the stand."""

import decimal
import json

import requests


class RpcError(Exception):
    """The node's own error object."""

    def __init__(self, method, error):
        super().__init__(f"{method}: {error}")
        self.code = error.get("code") if isinstance(error, dict) else None
        self.message = error.get("message", "") if isinstance(error, dict) else str(error)


class Rpc:
    """A callable endpoint: `rpc("getblockhash", 7)`. Fractions come back as `Decimal`."""

    def __init__(self, url, user=None, password=None, timeout=60):
        self.url = url
        self.session = requests.Session()
        if user is not None:
            self.session.auth = (user, password)
        self.timeout = timeout

    def __call__(self, method, *params):
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = self.session.post(self.url, json=body, timeout=self.timeout)
        try:
            value = json.loads(answer.text, parse_float=decimal.Decimal)
        except ValueError as error:
            raise RpcError(method, f"HTTP {answer.status_code}: {answer.text[:200]}") from error
        if value.get("error"):
            raise RpcError(method, value["error"])
        return value.get("result")
