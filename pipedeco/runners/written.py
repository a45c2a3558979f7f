"""What steps have written into working directories that go away with the run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipedeco import events
from pipedeco.events import Part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipedeco.graph import Step

Wrote = tuple[int, str, float]

NAMED = 3  # files of a component, and components
KEPT = 10_000  # files that are remembered


class Written:
    """The files of the steps of a run and its child runs, on all machines."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], dict[Step, None]] = {}  # steps by machine and path
        self._logs: dict[Step, str] = {}  # the folder of its run's logs
        self._missed: dict[tuple[str, str], float] = {}  # by how much these do

    def add(self, host: str, steps: dict[int, Step], found: Iterable[Wrote], logs: str) -> None:
        """A machine tells of files; of several claims the one counts that misses least.

        Parameters
        ----------
        steps: by the numbers of their calls.
        found: (number, path, seconds by which the file's time misses the call's) of each.
        logs: the folder of their run's logs.
        """
        for number, path, missed in found:
            place = host, path
            least = self._missed.get(place, missed)
            if number not in steps or missed > least or len(self._files) >= KEPT:
                continue
            if missed < least:
                self._files[place].clear()
            self._missed[place] = missed
            self._files.setdefault(place, {})[steps[number]] = None
            self._logs[steps[number]] = logs

    def text(self) -> str:
        """What a person is to know of them; "" where all of them came home."""
        left = self._left()
        if not left:
            return ""
        hosts = sorted({host for host, _ in left})
        of = _by_component(left)
        told = [f"{who}: {_few(paths)}" for who, paths in list(of.items())[:NAMED]]
        more = f"; and {len(of) - NAMED} more" if len(of) > NAMED else ""
        patterns = dict.fromkeys(_pattern(path) for _, path in left)
        return (
            f"files were written into the run's working directory on {', '.join(hosts)}, which goes "
            f"away with the run ({'; '.join(told)}{more}); "
            f"@component(collect=[{', '.join(list(patterns)[:NAMED])}]) or log_artifact() keeps "
            "them, an absolute path puts them where you want them"
        )

    def _left(self) -> dict[tuple[str, str], dict[Step, None]]:
        """Those that no step has logged."""
        logged = {name for step, logs in self._logs.items() for name in _logged_by(step, logs)}
        return {
            place: found
            for place, found in self._files.items()
            if logged.isdisjoint(place[1].split("/"))
        }


def _logged_by(step: Step, logs: str) -> set[str]:
    """The names of the files and folders that a step has logged."""
    part = step.outcome.logs if step.outcome is not None else None
    if part is None or part.events_start == part.events_end:
        return set()
    path = os.path.join(logs, f"{part.name}.events")
    found = events.read(Part(path, part.events_start, part.events_end, part.number), metrics=False)
    kinds = events.ARTIFACT, events.MODEL
    return {
        event.payload["file"] for event in found if event.kind in kinds and "file" in event.payload
    }


def _by_component(files: dict[tuple[str, str], dict[Step, None]]) -> dict[str, list[str]]:
    """The paths by who wrote them: a step, or a component where several of its steps did."""
    steps: dict[str, set[str]] = {}
    for found in files.values():
        for step in found:
            steps.setdefault(step.called.name, set()).add(step.name)
    names = {name: min(own) if len(own) == 1 else name for name, own in steps.items()}
    found_by: dict[str, list[str]] = {}
    for (_, path), wrote in sorted(files.items(), key=lambda item: item[0][1]):
        who = " or ".join(dict.fromkeys(names[step.called.name] for step in wrote))
        found_by.setdefault(who, []).append(path)
    return found_by


def _few(paths: list[str]) -> str:
    paths = list(dict.fromkeys(paths))  # one may be on several machines
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{', '.join(paths[:NAMED])}{more}"


def _pattern(path: str) -> str:
    """What collects files like this one."""
    folder, name = os.path.split(path)
    suffix = os.path.splitext(name)[1]
    return f'"{os.path.join(folder, f"*{suffix}" if suffix else name)}"'
