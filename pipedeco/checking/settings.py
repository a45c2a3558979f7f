"""Options and queues that cannot be met; no engine is opened."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipedeco.checking.findings import ERROR, WARNING, Finding, named, place_of
from pipedeco.config import engine_url, find_blobs, find_queues, find_start_method
from pipedeco.engines import check_url, parse
from pipedeco.errors import ConfigError
from pipedeco.objects import ObjectFolder
from pipedeco.plugins import unusable_callbacks

if TYPE_CHECKING:
    from collections.abc import Iterator


def look_at_options(component: Any) -> Iterator[Finding]:
    """Options that do nothing without others."""
    options = component.step_options
    if options.retries:
        yield from _look_at_delays(component, options)
        return
    for option, default in (("retry_on", (Exception,)), ("retry_delay", 0.0)):
        if getattr(options, option) != default:
            text = f"{option}= does nothing without retries="
            yield Finding(WARNING, *place_of(component), named(component), text, "add retries=")


def _look_at_delays(component: Any, options: Any) -> Iterator[Finding]:
    delays = options.retry_delay
    if callable(delays):
        try:
            inspect.signature(delays).bind(1)
        except TypeError as error:
            text = f"retry_delay= is called with the number of the attempt that failed: {error}"
            yield Finding(ERROR, *place_of(component), named(component), text)
        except ValueError:  # a function in C that does not tell
            pass
    if isinstance(delays, tuple) and len(delays) > options.retries:
        text = f"retry_delay= has {len(delays)} delays, and retries={options.retries}"
        advice = f"write retries={len(delays)}"
        yield Finding(WARNING, *place_of(component), named(component), text, advice)


def look_at_callbacks() -> Iterator[Finding]:
    """Those of installed distributions, without which no run begins."""
    for error in unusable_callbacks(sys.path)[1]:
        yield Finding(ERROR, "", 0, "", str(error))


def look_at_start_method(pipeline: Any) -> Iterator[Finding]:
    try:
        find_start_method(pipeline.options.start_method)
    except ConfigError as error:
        yield Finding(ERROR, *place_of(pipeline), named(pipeline), str(error))


def look_at_child(child: Any, parent: Any, mode: str) -> Iterator[Finding]:
    """A child run is in its parent's mode, and cannot ask for another."""
    if child.options.mode not in (None, mode):
        text = f"it asks for mode {child.options.mode}, and {parent.name} calls it in mode {mode}"
        advice = "a child run is in its parent's mode: take mode= away"
        yield Finding(ERROR, *place_of(child), named(child), text, advice)


class Queues:
    """The queues of remote mode; each is looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, bool | None]] = {}  # what is wrong, takes resources

    def look(self) -> Iterator[Finding]:
        """Whether they can be read at all."""
        try:
            find_queues()
        except ConfigError as error:
            yield Finding(ERROR, "", 0, "", str(error))
        try:
            url = find_blobs()
            if url is not None:
                ObjectFolder(url).check()
        except ConfigError as error:
            yield Finding(ERROR, "", 0, "", str(error))

    def of(self, component: Any, pipeline: Any, default: str) -> Iterator[Finding]:
        """Whether a component of a pipeline has a queue that gives what it asks for."""
        options = component.step_options
        queue = options.queue or default
        wrong, takes_resources = self._look_at(queue)
        owner = component if options.queue else pipeline
        if wrong:
            yield Finding(ERROR, *place_of(owner), named(owner), wrong)
        elif options.resources and takes_resources is False:
            asked = ", ".join(name for name, _ in options.resources)
            text = f"it asks for {asked}, and the engine of queue {queue} knows no resources"
            advice = "take resources= away, or give it another queue"
            yield Finding(ERROR, *place_of(component), named(component), text, advice)

    def are_here(self, queue: str) -> bool:
        """Whether the workers of a queue are processes of this machine, which see its files."""
        try:
            return urlsplit(engine_url(queue)).scheme == "local"
        except ConfigError:
            return False

    def _look_at(self, queue: str) -> tuple[str, bool | None]:
        if queue not in self._known:
            try:
                self._known[queue] = "", check_url(parse(engine_url(queue)))
            except ConfigError as error:
                self._known[queue] = str(error), None
        return self._known[queue]
