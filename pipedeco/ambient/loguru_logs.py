"""loguru, as the program has set it up: its levels, its extras, and its sinks.

Each handler of loguru's goes to workers, with its format and its filter, but for its sink: one of
stdout or stderr writes to the step's; any other one is served by the program.
"""

from __future__ import annotations

import copy
import importlib
import sys
from typing import Any

from pipedeco.picklers import loads

# What makes a logger's core what it is, beside its handlers.
SETTINGS = (
    "levels", "levels_ansi_codes", "levels_lookup", "extra", "patcher", "activation_list",
    "activation_none",
)  # fmt: skip
LEVELS = 7  # that loguru has by itself
LAST = -1  # the key of the handler that comes last


def core_of() -> Any:
    """The core of loguru's one logger; None where nobody has imported it."""
    module = sys.modules.get("loguru")
    return getattr(getattr(module, "logger", None), "_core", None)


def place_of(handler: Any) -> str | None:
    """Which stream of a step a handler writes to; None where it is no such one."""
    stream = getattr(handler._sink, "_stream", None)
    for name in ("stderr", "stdout"):
        if stream is not None and stream in (getattr(sys, name), getattr(sys, f"__{name}__")):
            return name
    return None


class LoguruLogs:
    """The part of the ambient state that loguru is."""

    name = "loguru"
    needs = "loguru"

    def __init__(self) -> None:
        self._state: Any = None
        self._wanted: dict[str, Any] | None = None

    def capture(self) -> Any:
        core = core_of()
        if core is None or _is_default(core):
            return None
        from pipedeco.ambient.carried import carried

        handlers = [_packed(key, handler) for key, handler in core.handlers.items() if key >= 0]
        settings = {name: carried(getattr(core, name)) for name in SETTINGS}
        return {
            "handlers": [packed for packed in handlers if packed is not None],
            "settings": {name: data for name, data in settings.items() if data is not None},
        }

    def enter(self, state: Any) -> None:
        self._state, self._wanted = state, None
        if state is not None:
            try:
                importlib.import_module("loguru")  # as the step may do
            except ImportError:  # an environment of the step's own
                return
        self.restore()

    def restore(self) -> None:
        core = core_of()
        if core is None or self._state is None:
            return
        if self._wanted is None:
            self._wanted = _loaded(self._state)
        wanted = self._wanted
        if any(getattr(core, name) is not value for name, value in wanted.items()):
            with core.lock:
                vars(core).update(wanted, enabled={})
        if core.extra != self._extra(wanted):
            core.extra.clear()
            core.extra.update(self._extra(wanted))

    def _extra(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return wanted["extra"].wanted  # type: ignore[no-any-return]


class _Extra(dict[str, Any]):
    """The extras of a logger, which are changed in place, with what they are to be."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        super().__init__(wanted)
        self.wanted = dict(wanted)


def _is_default(core: Any) -> bool:
    """Whether nobody has set up anything."""
    keys = [key for key in core.handlers if key != LAST]
    own = core.extra or core.patcher or core.activation_list or not core.activation_none
    return not own and keys == [0] and len(core.levels) == LEVELS


def _packed(key: int, handler: Any) -> tuple[Any, ...] | None:
    """Key, place and pickle of a handler."""
    from pipedeco.ambient.carried import carried
    from pipedeco.tracing import warn_user

    double = copy.copy(handler)
    vars(double).update(vars(handler))
    for name in ("_sink", "_queue", "_thread", "_confirmation_event", "_confirmation_lock"):
        setattr(double, name, None)
    double._enqueue, double._owner_process_pid, double._multiprocessing_context = False, None, None
    data = carried(double)
    if data is None:
        warn_user(
            f"the sink {handler!r} of loguru has a format or a filter that cannot be pickled, so "
            "it gets nothing from steps; define these at the top level of a module"
        )
        return None
    return key, place_of(handler), data


def _loaded(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a core as they are to be."""
    from pipedeco.ambient.loguru_sinks import Last, sink_of

    wanted = {name: loads(data) for name, data in state["settings"].items()}
    wanted["extra"] = _Extra(wanted.get("extra", {}))
    last = Last()
    handlers = {}
    for key, place, data in state["handlers"]:
        handler = handlers[key] = loads(data)
        handler._sink = sink_of(place, key, last)
    levels = [handler._levelno for handler in handlers.values()]
    wanted["min_level"] = min(levels, default=float("inf"))
    wanted["handlers"] = {**handlers, LAST: last} if handlers else {}
    return wanted
