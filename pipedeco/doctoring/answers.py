"""What the workers' answers say when they are held against this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipedeco.doctoring.lines import ERROR, WARNING, Line
from pipedeco.worker.probing import PICKLERS, python_version, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipedeco.doctoring.scratch import Scratch
    from pipedeco.worker.probing import Answer

NAMED = 3  # workers that a line names
MUCH = 1.0  # seconds between two clocks that are too many


class Trip(NamedTuple):
    """An answer, and when, by our clock, it was asked for and came."""

    sent: float
    back: float
    answer: Answer

    @property
    def doubt(self) -> float:
        """Half the time that the trip took: so far the clock may be from `ahead`."""
        return max(0.0, (self._most - self._least) / 2)

    @property
    def ahead(self) -> float:
        """Seconds by which the worker's clock is ahead of ours, more or less `doubt`."""
        return (self._most + self._least) / 2

    @property
    def _most(self) -> float:
        return self.answer.began - self.sent

    @property
    def _least(self) -> float:
        return self.answer.ended - self.back


def best_trips(trips: list[Trip]) -> list[Trip]:
    """One of each worker: of several the quickest, as that tells most of its clock."""
    workers: dict[tuple[str, int], Trip] = {}
    for trip in trips:
        key = trip.answer.host, trip.answer.pid
        if key not in workers or trip.doubt < workers[key].doubt:
            workers[key] = trip
    return list(workers.values())


def clock_limit(trips: list[Trip]) -> float:
    """Seconds by which no clock of theirs can differ more from ours."""
    return max(abs(trip.ahead) + trip.doubt for trip in trips)


def compare(trips: list[Trip], scratch: Scratch) -> Iterator[Line]:
    """What is not well, each thing once with the workers that it is of."""
    yield from _pythons(trips)
    yield from _versions(trips)
    if scratch.reachable:
        yield from _stores(trips, scratch)
    yield from _clocks(trips)


def _pythons(trips: list[Trip]) -> Iterator[Line]:
    own = python_version()
    for version, names in _grouped((trip.answer.python, trip) for trip in trips):
        if version == own:
            continue
        text = f"{names} Python {version}, this process {own}"
        if version.split(".")[:2] != own.split(".")[:2]:
            advice = "start the workers with the Python of this process, or this one with theirs"
            yield Line("", ERROR, text, advice)
        else:
            yield Line("", WARNING, text, "the same one is safer for pickles of both ways")


def _versions(trips: list[Trip]) -> Iterator[Line]:
    own = version_of("pipedeco")
    for version, names in _grouped((trip.answer.pipedeco, trip) for trip in trips):
        if version != own:
            text = f"{names} pipedeco {version or 'that is not installed'}, this process {own}"
            yield Line("", WARNING, text, f"install pipedeco=={own} there")
    for pickler in PICKLERS:
        own = version_of(pickler)
        asked = ((trip.answer.picklers.get(pickler, ""), trip) for trip in trips)
        for version, names in _grouped(asked):
            if version != own:
                text = f"{names} {pickler} {version or 'that is not installed'}, this process {own}"
                yield Line("", WARNING, text, f"install {pickler}=={own} there")


def _stores(trips: list[Trip], scratch: Scratch) -> Iterator[Line]:
    troubles = ((_trouble(trip.answer, scratch), trip) for trip in trips)
    for trouble, names in _grouped(troubles, verb=""):
        if trouble:
            what = f"the store {scratch.store}" if scratch.objects is None else scratch.address
            text = f"{names} cannot use {what} ({trouble})"
            advice = (
                "workers need it at the same path: put it into a folder that they share, with "
                "PIPEDECO_STORE or configure(store=...); or name an object store with PIPEDECO_BLOBS"
                if scratch.objects is None
                else "give them what this process has: the package of the protocol, and the variables "
                "or files that say endpoint and credentials"
            )
            yield Line("", ERROR, text, advice)


def _trouble(answer: Answer, scratch: Scratch) -> str:
    if answer.trouble:
        return answer.trouble
    return "" if answer.hello == scratch.hello else "another folder is there under this path"


def _clocks(trips: list[Trip]) -> Iterator[Line]:
    worst = max(trips, key=lambda trip: abs(trip.ahead) - trip.doubt)
    off = abs(worst.ahead)
    if off - worst.doubt > MUCH:
        way = "ahead of" if worst.ahead > 0 else "behind"
        text = f"the clock of {worst.answer.host} is {off:.1f} s {way} ours, ± {worst.doubt:.1f} s"
        yield Line("", WARNING, text, "let both keep time by NTP, or the times of steps mislead")


def _grouped(found: Iterable[tuple[str, Trip]], verb: str = "run") -> list[tuple[str, str]]:
    """What workers have in common, and their names."""
    groups: dict[str, list[str]] = {}
    for what, trip in found:
        groups.setdefault(what, []).append(f"{trip.answer.host} (pid {trip.answer.pid})")
    return [(what, _names(names, verb)) for what, names in groups.items()]


def _names(names: list[str], verb: str) -> str:
    named = ", ".join(names[:NAMED])
    more = len(names) - NAMED
    text = f"{named} and {more} more" if more > 0 else named
    if verb:
        verb += "s" * (len(names) == 1)
    return f"worker{'s' * (len(names) > 1)} {text} {verb}".rstrip()
