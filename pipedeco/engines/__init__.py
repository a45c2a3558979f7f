"""Engines: existing distributed systems that perform payloads, each behind a small adapter.

    local://4                           processes of this machine
    dask://scheduler:8786               a Dask cluster; dask:// starts one here
    ray://head:10001                    a Ray cluster; ray://auto that of this machine, ray:// a new one
    executor://module:factory           whatever is a concurrent.futures.Executor

Each may have ?max_in_flight=8: no more steps of the queue at once, of all runs of a process.

Others are found by the entry points `pipedeco.engines`: the name is the scheme, and what it leads to
is called with an EngineURL and returns an Engine.
"""

from __future__ import annotations

import re
import sys
from concurrent.futures import CancelledError
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from pipedeco.errors import ConfigError, EngineLost, PipedecoError, StepFailed
from pipedeco.plugins import find, named_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

GROUP = "pipedeco.engines"
BUILT_IN = {
    "local": "pipedeco.engines.local:open_local",
    "dask": "pipedeco.engines.dask:open_dask",
    "executor": "pipedeco.engines.executor:open_executor",
    "ray": "pipedeco.engines.ray:open_ray",
}

PLACE = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^][:/?#@\s]+)(?::([0-9]{1,5}))?")  # host:port
EXTRAS = frozenset({"dask", "ray"})  # schemes that an extra of ours brings the library for
LIMIT = "max_in_flight"  # an option of every URL


class Engine(Protocol):
    """Has payloads performed: each by one call of `pipedeco.worker.station.perform_batch`.

    Attributes
    ----------
    alive: whether it can take payloads; once it cannot, another one is opened.
    slots: how many payloads it performs at once, which may change.
    takes_resources: whether it knows what to do with the resources that a step asks for.
    """

    takes_resources: bool

    @property
    def alive(self) -> bool: ...

    @property
    def slots(self) -> int: ...

    def submit(
        self, payload: bytes, resources: Mapping[str, float | str], priority: int = 0
    ) -> Future[bytes]:
        """Begin to have a payload performed; never waits.

        Payloads come in the order of their priorities; it is for an engine that has others of its
        own, or gets some from others.

        The future can be cancelled while the payload is not begun.
        """

    def lacks(self, resources: Mapping[str, float | str]) -> str:
        """Why nobody there can begin a payload that asks for these, as a part of a sentence.

        Empty where a worker has what it needs, busy or not, and where nobody knows.  May take
        seconds.
        """

    def explain(self, error: BaseException) -> StepFailed:
        """What the error that ended a future says of its steps: WorkerDied, EngineLost, ..."""

    def close(self) -> None:
        """Leave nothing that was started; what is under way is lost."""


class EngineURL(NamedTuple):
    """Where an engine is: `scheme://address?option=value`."""

    text: str
    scheme: str
    address: str
    options: dict[str, str]
    max_in_flight: int | None = None  # steps of its queue at once

    @property
    def engine(self) -> str:
        """The URL without what is the queue's alone: queues share an engine."""
        if self.max_in_flight is None:
            return self.text
        query = urlencode(self.options, safe=":,")
        return f"{self.scheme}://{self.address}{'?' if query else ''}{query}"

    def take(self, *known: str) -> dict[str, str]:
        """The options; raises ConfigError for one that is not known."""
        for name in self.options:
            if name not in known:
                can = ", ".join([*known, LIMIT])
                raise ConfigError(f"{self.text} has no option {name!r}; there are {can}")
        return self.options

    def whole(self, name: str, text: str) -> int:
        """A number of 1 or more that stands in the URL; raises ConfigError where it is none."""
        if not text.isdecimal() or int(text) < 1:
            raise ConfigError(f"in {self.text} the {name} is a number of 1 or more, not {text!r}")
        return int(text)

    def place(self, own_port: int | None = None) -> tuple[str, int]:
        """Host and port of the address; raises ConfigError where it is none.

        Parameters
        ----------
        own_port: what holds where the address has none.
        """
        found = PLACE.fullmatch(self.address)
        port = own_port if found is None or found[2] is None else int(found[2])
        if found is None or port is None or not 0 < port < 1 << 16:
            raise ConfigError(
                f"{self.text} is to name a host and a port, such as {self.scheme}://head:8786, with "
                "nothing behind"
            )
        return found[1].strip("[]"), port

    def workers(self, own: int) -> int:
        """How many a cluster of our own gets; raises ConfigError where there is another's."""
        if self.address and "workers" in self.options:
            raise ConfigError(
                f"{self.text}: workers= is for a cluster of our own, {self.scheme}://?workers=2"
            )
        return self.whole("workers", self.options["workers"]) if "workers" in self.options else own


def parse(text: str) -> EngineURL:
    """The parts of an engine's URL.  Raises ConfigError where it is none, or names no engine."""
    parts = urlsplit(text)
    if not parts.scheme or "://" not in text:
        raise ConfigError(f"{text!r} is no URL of an engine, such as local://2")
    known = schemes()
    if parts.scheme not in known:
        raise ConfigError(
            f"{text!r} names no engine that is known here: there are "
            f"{', '.join(f'{name}://' for name in sorted(known))}; others come with distributions "
            f"that have entry points in {GROUP}"
        )
    address = text.partition("://")[2].partition("?")[0]
    url = EngineURL(text, parts.scheme, address, dict(parse_qsl(parts.query)))
    limit = url.options.pop(LIMIT, None)
    return url if limit is None else url._replace(max_in_flight=url.whole(LIMIT, limit))


def schemes() -> dict[str, str]:
    """Where the engines are that can be named, by scheme."""
    return BUILT_IN | {point.name: point.value for point in find(GROUP, sys.path)}


def check_url(url: EngineURL) -> bool | None:
    """Look at a URL without opening its engine; whether that takes resources, None for unknown.

    An adapter's module may have `read_url(url)`, which raises ConfigError for what cannot be, and
    REQUIRES, the module that it needs.  The class by which its opener is annotated tells of
    resources.
    Raises ConfigError.
    """
    opener = schemes()[url.scheme]
    try:
        open_it = named_object(opener)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{url.text} names an engine that cannot be loaded: {error}") from error
    adapter = sys.modules[opener.partition(":")[0]].__dict__
    if "read_url" in adapter:
        adapter["read_url"](url)
    if "REQUIRES" in adapter and find_spec(adapter["REQUIRES"]) is None:
        raise ConfigError(_not_installed(url, f"No module named {adapter['REQUIRES']!r}"))
    made = getattr(open_it, "__annotations__", {}).get("return")
    kind = adapter.get(made) if isinstance(made, str) else made
    return getattr(kind, "takes_resources", None)


def open_engine(text: str) -> Engine:
    """The engine of a URL, which may take seconds.

    Raises ConfigError for what is wrong in the URL, and EngineLost where it cannot be reached.
    """
    url = parse(text)
    try:
        engine: Engine = named_object(schemes()[url.scheme])(url)
    except PipedecoError:
        raise
    except ImportError as error:
        raise ConfigError(_not_installed(url, str(error))) from error
    except Exception as error:
        raise EngineLost(f"{text} cannot be reached: {type(error).__name__}: {error}") from error
    return engine


def error_of(future: Future[bytes]) -> BaseException | None:
    """What a payload's future has ended with; None for its words."""
    return CancelledError() if future.cancelled() else future.exception()


def _not_installed(url: EngineURL, what: str) -> str:
    cure = f"pip install 'pipedeco[{url.scheme}]'"
    if url.scheme not in EXTRAS:  # a module of the user's, or a library of theirs
        cure = "see that its name is right, and that it can be imported here"
    return f"{url.text} needs a package that is not installed: {what}; {cure}"
