"""structlog, as the program has configured it, and the context that it has bound."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

from pipedeco.picklers import loads


class StructLogs:
    """The part of the ambient state that structlog is."""

    name = "structlog"
    needs = "structlog"

    def __init__(self) -> None:
        self._entered: tuple[dict[str, Any], dict[str, Any]] | None = None

    def capture(self) -> Any:
        if "structlog" not in sys.modules:
            return None
        structlog = _library()

        from pipedeco.ambient.carried import carried
        from pipedeco.tracing import warn_user

        bound = structlog.contextvars.get_contextvars()
        if not structlog.is_configured() and not bound:
            return None
        config = structlog.get_config() if structlog.is_configured() else {}
        state = {}
        for name, value in {**config, "bound": bound}.items():
            data = carried(value)
            if data is None:
                warn_user(
                    f"{name} of structlog cannot be pickled, so it does not hold in steps; "
                    "configure structlog with what can be"
                )
            else:
                state[name] = data
        return state

    def enter(self, state: Any) -> None:
        if state is None and self._entered is None:
            return
        try:
            structlog = _library()
        except ImportError:  # an environment of the step's own
            return
        config = {name: _loaded(data) for name, data in (state or {}).items()}
        bound = config.pop("bound", None) or {}
        structlog.reset_defaults()
        if config:
            structlog.configure(**config)
        self._entered = structlog.get_config() if config else {}, bound
        self.restore()

    def restore(self) -> None:
        if self._entered is None:
            return
        structlog = _library()

        config, bound = self._entered
        if config and structlog.get_config() != config:
            structlog.configure(**config)
        if structlog.contextvars.get_contextvars() != bound:
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(**bound)


def _library() -> Any:
    return importlib.import_module("structlog")


def streams() -> dict[int, Any]:
    """The streams that loggers of the program write to, by their key in workers."""
    structlog = _library()

    factory = structlog.get_config()["logger_factory"]
    held = getattr(factory, "__dict__", {}).values()
    return {id(stream): stream for stream in held if isinstance(stream, io.TextIOBase)}


def _loaded(data: bytes) -> Any:
    try:
        return loads(data)
    except Exception as error:  # noqa: BLE001 - the user's modules
        sys.stderr.write(f"pipedeco: a part of structlog cannot be loaded: {error!r}\n")
        return None
