"""Runs under debugpy, driven through the debug adapter protocol as VS Code does it."""

import json
import os
import socket
import subprocess
import sys

import pytest
from conftest import DEADLINE, wait_until

pytest.importorskip("debugpy")

PROGRAM = """
from pipedeco import component, pipeline

@component
def six():
    return 6

@component(retries=1)
def divides(n):
    return n // (n - n)

@pipeline
def main():
    a = six()
    print("here")  # breakpoint
    return divides(a)

try:
    main()
except ZeroDivisionError:
    pass
"""
RULES = [{"module": "pipedeco", "include": False}]  # as in .vscode/launch.json
STOP = 1 + PROGRAM.splitlines().index('    print("here")  # breakpoint')


class Client:
    """A debug adapter's client: requests are answered in their order, events are kept."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self._file = self._socket.makefile("rb")
        self._sent = 0
        self.events = []

    def send(self, command, **arguments):
        self._sent += 1
        message = {"seq": self._sent, "type": "request", "command": command}
        data = json.dumps({**message, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        return self._sent

    def ask(self, command, **arguments):
        number = self.send(command, **arguments)
        return self.answer(number)

    def answer(self, number):
        while True:
            message = self._read()
            if message["type"] == "response" and message["request_seq"] == number:
                assert message["success"], message
                return message.get("body", {})

    def event(self, *names):
        """The next event of these names."""
        while True:
            for event in self.events:
                if event["event"] in names:
                    self.events.remove(event)
                    return event
            self._read()

    def close(self):
        self._file.close()
        self._socket.close()

    def _read(self):
        length = 0
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, text = line.partition(b":")
            length = int(text) if name == b"Content-Length" else length
        message = json.loads(self._file.read(length))
        if message["type"] == "event":
            self.events.append(message)
        return message


@pytest.fixture
def debugged(tmp_path):
    """The program under debugpy, which waits for its client."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PIPEDECO_STORE": str(tmp_path),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    environment.pop("PIPEDECO_MODE", None)
    command = ["-m", "debugpy", "--listen", str(port), "--wait-for-client", str(file)]
    process = subprocess.Popen(
        [sys.executable, "-X", "frozen_modules=off", *command], cwd=tmp_path, env=environment
    )
    client = _connected(port)
    client.ask("initialize", adapterID="test", pathFormat="path")
    attached = client.send("attach", justMyCode=True, rules=RULES)
    client.event("initialized")
    try:
        yield client, str(file), attached, process
    finally:
        client.close()
        process.kill()
        process.wait()


def _connected(port):
    """The client, once debugpy listens."""
    made = []

    def connect():
        try:
            made.append(Client(port))
        except ConnectionRefusedError:
            return False
        return True

    wait_until(connect, "debugpy listens")
    return made[0]


def _stops(client):
    """Where it stops until it ends: (reason, function, line, text), and then goes on."""
    while True:
        event = client.event("stopped", "terminated")
        if event["event"] == "terminated":
            return
        thread = event["body"]["threadId"]
        top = client.ask("stackTrace", threadId=thread)["stackFrames"][0]
        yield event["body"], top
        client.ask("continue", threadId=thread)


def test_raised_exceptions_stop_where_the_program_raises(debugged):
    client, _, attached, process = debugged
    client.ask("setExceptionBreakpoints", filters=["raised", "userUnhandled"])
    client.ask("configurationDone")
    client.answer(attached)
    found = [(body["reason"], body["text"].split()[0], top["name"]) for body, top in _stops(client)]
    assert {stop[:2] for stop in found} == {("exception", "ZeroDivisionError")}
    assert {name.split()[0] for *_, name in found} <= {"divides", "main", "<module>"}
    assert process.wait(DEADLINE) == 0


def test_a_hover_shows_the_preview_and_a_watch_makes_no_step(debugged):
    client, file, attached, process = debugged
    client.ask("setBreakpoints", source={"path": file}, breakpoints=[{"line": STOP}])
    client.ask("configurationDone")
    client.answer(attached)
    seen = []
    for _, top in _stops(client):
        for text in ("a", "a + 1", "six()", "divides"):
            asked = {"expression": text, "frameId": top["id"], "context": "watch"}
            seen.append(client.ask("evaluate", **asked)["result"])
    assert seen == ["<StepResult six completed: 6>", "7", "6", "<component divides>"]
    assert process.wait(DEADLINE) == 0
    shown = subprocess.run(
        [sys.executable, "-m", "pipedeco", "show", "latest", "--json"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PIPEDECO_STORE": os.path.dirname(file)},
    )  # fmt: skip
    assert sorted(json.loads(shown.stdout)["steps"]) == ["divides", "six"]
