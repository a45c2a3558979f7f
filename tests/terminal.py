"""A terminal for tests: a process on a pty, and what its screen shows."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pyte

DEADLINE = 20.0


class Terminal:
    """A process whose terminal is ours.

    Everything that scrolled away is kept too: `text` is the whole history and the screen.
    """

    def __init__(self, *command, cwd=None, env=None, size=(100, 30)):
        self.screen = pyte.HistoryScreen(*size, history=10_000, ratio=0.001)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        self._set_size(*size)
        # pytest-xdist tells its workers the size of another terminal.
        kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**kept, "TERM": "xterm-256color", **(env or {})},
            start_new_session=True,
            # A session's first terminal becomes its own, so that ^C reaches it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call
        )
        os.close(slave)
        self.raw = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)

    @property
    def text(self):
        """All lines, those that scrolled away first, without spaces at their ends."""
        with self._lock:
            gone = [
                "".join(line[x].data for x in range(self.screen.columns)).rstrip()
                for line in self.screen.history.top
            ]
            return "\n".join([*gone, *(line.rstrip() for line in self.screen.display)]).rstrip()

    def wait_for(self, *texts, timeout=DEADLINE):
        """Wait until the screen shows one of these; what it then shows."""
        deadline = time.monotonic() + timeout
        while True:
            shown = self.text
            if any(text in shown for text in texts):
                return shown
            assert time.monotonic() < deadline, f"no {texts} within {timeout} s in:\n{shown}"
            time.sleep(0.01)

    def wait_gone(self, text, timeout=DEADLINE):
        """Wait until the screen does not show this any more."""
        deadline = time.monotonic() + timeout
        while text in self.text:
            assert time.monotonic() < deadline, f"still {text!r} in:\n{self.text}"
            time.sleep(0.01)

    def send(self, text):
        os.write(self._master, text.encode())

    def resize(self, columns, lines):
        with self._lock:
            self.screen.resize(lines, columns)
        self._set_size(columns, lines)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def _set_size(self, columns, lines):
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def wait(self, timeout=DEADLINE):
        """Wait for the process's end and the last of its output; its exit code."""
        code = self.process.wait(timeout)
        while select.select([self._master], [], [], 0.0)[0] and self._reader.is_alive():
            time.sleep(0.01)
        self._reader.join(1.0)
        return code

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._master)
