"""An editor's side of the language server protocol: a process, and messages to and from it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

WAIT = 60.0  # seconds for one message, on a machine that is busy
NET = '''"""A net."""

import nn

# Twice as much.
fn double(x: f32[*S]) -> f32[*S] = 2.0 * x

model Net(hidden: int) {
    """One layer and a product."""
    first = nn.Dense(784, hidden)
    layers = [nn.Dense(hidden, hidden) for _ in range(3)]
    param w: f32[hidden, 10] = glorot_uniform()
    state seen: i32 = 0

    fn scores(x: f32[N, 784]) -> f32[N, 10] {
        h = relu(first(x))
        for layer in layers {
            h = tanh(layer(h))
        }
        return double(h) @ w
    }

    step fit(x: f32[N, 784], label: u8[N], lr: f32 = 0.1) -> f32 {
        loss = softmax_cross_entropy(scores(x), label)
        minimize loss with sgd(lr=lr)
        seen += 1
        return loss
    }
}
'''
TRAIN = NET + '''
train Net(hidden=16) {
    data = "arrays"
    step = fit
    batch = 8
    epochs = 1
}
'''


class Client:
    """A session with `dlc lsp`; `file` is the text that most calls are about."""

    def __init__(self, folder: Path, related: bool = True, encodings: tuple[str, ...] = ()) -> None:
        self.uri = (folder / "net.dl").as_uri()
        self.text = ""
        self.version = 0
        self.logged: list[str] = []
        self.published: list[tuple[str, int]] = []  # texts and versions
        self.registered: list[str] = []
        self._number = 0
        self._answers: dict[int, Any] = {}
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dlc", "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, cwd=folder)
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._drain, daemon=True).start()
        capabilities = {
            "general": {"positionEncodings": list(encodings)} if encodings else {},
            "workspace": {"didChangeWatchedFiles": {"dynamicRegistration": True}},
            "textDocument": {"publishDiagnostics": {"relatedInformation": related}}}
        self.server = self.ask("initialize", {
            "processId": None, "rootUri": folder.as_uri(), "capabilities": capabilities})
        self.tell("initialized", {})

    def _listen(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while line := stream.readline():
            length = 0
            while line.strip():
                name, _, value = line.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
                line = stream.readline()
            self._messages.put(json.loads(stream.read(length)))
        self._messages.put(None)

    def _drain(self) -> None:
        assert self._process.stderr is not None
        self._process.stderr.read()

    def send(self, body: bytes) -> None:
        """Bytes as one message."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def tell(self, method: str, params: object) -> None:
        """A message without an answer."""
        self.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())

    def ask(self, method: str, params: object) -> Any:
        """The answer to a question; AssertionError if it is an error."""
        self._number += 1
        number = self._number
        self.send(json.dumps({
            "jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())
        while True:
            message = self._next()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message["error"]
                return message["result"]

    def _next(self) -> dict[str, Any]:
        message = self._messages.get(timeout=WAIT)
        assert message is not None, "the server has gone"
        match message.get("method"):
            case "window/logMessage":
                self.logged.append(message["params"]["message"])
            case "textDocument/publishDiagnostics":
                params = message["params"]
                self.published.append((params["uri"], params.get("version")))
            case "client/registerCapability":
                self.registered += [r["method"] for r in message["params"]["registrations"]]
                self.send(json.dumps({
                    "jsonrpc": "2.0", "id": message["id"], "result": None}).encode())
        return message

    # Texts

    def open(self, text: str, uri: str = "") -> list[dict[str, Any]]:
        """Opens a text; what is wrong with it."""
        document = {"uri": uri or self.uri, "languageId": "dl", "version": 1, "text": text}
        if not uri:
            self.text, self.version = text, 1
        self.tell("textDocument/didOpen", {"textDocument": document})
        return self.diagnostics(uri or self.uri, 1)

    def change(self, text: str) -> None:
        """The text is another one now."""
        self.text = text
        self.version += 1
        self.tell("textDocument/didChange", {
            "textDocument": {"uri": self.uri, "version": self.version},
            "contentChanges": [{"text": text}]})

    def diagnostics(self, uri: str = "", version: int = 0) -> list[dict[str, Any]]:
        """What is wrong with a version of a text, once it is said."""
        wanted = (uri or self.uri, version or self.version)
        while True:
            message = self._next()
            params = message.get("params") or {}
            if message.get("method") == "textDocument/publishDiagnostics":
                if (params["uri"], params.get("version")) == wanted:
                    found: list[dict[str, Any]] = params["diagnostics"]
                    return found

    def at(self, mark: str, ahead: int = 0) -> dict[str, Any]:
        """The place of a text in the open one, and so many characters on (UTF-16)."""
        before = self.text[: self.text.index(mark) + ahead]
        line = before[before.rfind("\n") + 1 :]
        position = {"line": before.count("\n"), "character": len(line.encode("utf-16-le")) // 2}
        return {"textDocument": {"uri": self.uri}, "position": position}

    def written(self, place: dict[str, Any]) -> str:
        """What stands at a range of one line of the open text (UTF-16)."""
        line = self.text.split("\n")[place["start"]["line"]].encode("utf-16-le")
        assert place["start"]["line"] == place["end"]["line"]
        return line[2 * place["start"]["character"] : 2 * place["end"]["character"]].decode(
            "utf-16-le")

    # The end

    def leave(self) -> int:
        """Shutdown and exit; the exit code."""
        assert self.ask("shutdown", None) is None
        self.tell("exit", None)
        return self._process.wait(WAIT)

    def hang_up(self) -> int:
        """Goes without a word; the exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(WAIT)

    def kill(self) -> None:
        """Ends the process, if it has not ended."""
        self._process.kill()
        self._process.wait()
