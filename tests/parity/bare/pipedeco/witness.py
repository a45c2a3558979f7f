"""Sees what each step of a bare program writes, and how it ends."""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from typing import Any


class Witness:
    """Watches the runs of a program and writes what their records should hold to a file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.pid = os.getpid()
        self.runs: list[dict[str, Any]] = []
        self.open: list[dict[str, Any]] = []  # the run that goes on, below those that began it
        self.in_step = False

    def watch_run(self, fn: Any) -> Any:
        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.in_step or os.getpid() != self.pid:
                return fn(*args, **kwargs)
            run = {"name": fn.__name__, "status": "completed", "steps": {}}
            step = self._begin(self.open[-1], fn) if self.open else {}
            self.runs.append(run)
            self.open.append(run)
            try:
                return fn(*args, **kwargs)
            except BaseException:
                run["status"] = step["state"] = "failed"
                raise
            finally:
                self.open.pop()
                self._save()

        return call

    def watch_step(self, fn: Any) -> Any:
        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.open or self.in_step or os.getpid() != self.pid:
                return fn(*args, **kwargs)
            step = self._begin(self.open[-1], fn)
            self.in_step = True
            spool = Spool()
            try:
                return fn(*args, **kwargs)
            except BaseException:
                step["state"] = "failed"
                raise
            finally:
                step["lines"] = spool.close()
                self.in_step = False

        return call

    def _begin(self, run: dict[str, Any], fn: Any) -> dict[str, Any]:
        names = run["steps"]
        same = sum(step["fn"] == fn.__name__ for step in names.values())
        step = {"fn": fn.__name__, "state": "completed", "lines": []}
        names[f"{fn.__name__}-{same + 1}" if same else fn.__name__] = step
        return step

    def _save(self) -> None:
        with open(self.path, "w") as file:
            json.dump(self.runs, file)


class Spool:
    """Takes what is written to the descriptors 1 and 2, by whomever."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self._flush()
        self.saved = [os.dup(1), os.dup(2)]
        for descriptor in (1, 2):
            os.dup2(self.file.fileno(), descriptor)

    def close(self) -> list[str]:
        """Give the descriptors back; the lines that were written."""
        self._flush()
        for descriptor, saved in zip((1, 2), self.saved, strict=True):
            os.dup2(saved, descriptor)
            os.close(saved)
        self.file.seek(0)
        with self.file:
            return self.file.read().decode(errors="backslashreplace").splitlines()

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
