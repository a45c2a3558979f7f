"""What steps and bodies say of themselves while they run: metrics, figures, artifacts, tags.

log_metric(...)   -> Reporter        reporter.py: of the step or body that this context executes
-> a line          events.py: written before the call returns
-> blobs           what is larger than a line
"""

from __future__ import annotations

import json
import os
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from pipedeco import events
from pipedeco.errors import NotPicklable, ReportError, RunNotFound
from pipedeco.events import OF_RUN, OF_STEP
from pipedeco.reporter import ADDRESS, afar, silent
from pipedeco.result import ATOMS
from pipedeco.text import preview
from pipedeco.tracing import reporting

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from pipedeco.reporter import Reporter, StepName

ROUNDING = 1e-6  # beyond 0 and 1, which a sum of shares may come to


def resolve(item: Any) -> Any:
    """What is reported, with values in the place of results."""
    if type(item) in ATOMS:
        return item
    from pipedeco.resolving import value

    return value(item)


class ReportCalls:
    """What can be reported on a step, or on a run; see the functions of the same names."""

    def __init__(self, reporter: Reporter, scope: int) -> None:
        self._reporter = reporter
        self._scope = scope

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        kind = type(value)
        if kind is not float and kind is not int:
            value = self._number("log_metric", name, value, "a metric is a number")
        if type(name) is not str or not name:
            self._check_name("log_metric", name)
        if step is not None and type(step) is not int:
            step = self._whole("log_metric", name, step)
        self._reporter.metric(name, value, step, scope=self._scope)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        metrics = resolve(metrics)
        if not hasattr(metrics, "items"):
            raise self._refused("log_metrics", "", f"it takes a dict, not {_a(metrics)}")
        numbers = {}
        for name, value in metrics.items():  # all of them, before any is written
            self._check_name("log_metrics", name)
            numbers[name] = self._number("log_metrics", name, value, "a metric is a number")
        for name, value in numbers.items():
            self.log_metric(name, value, step)

    def log_param(self, name: str, value: Any) -> None:
        self._check_name("log_param", name)
        value = _own_number(resolve(value))
        plain = value is None or type(value) in (bool, int, float, str)
        payload = {"value": value} if plain else {"preview": preview(value)}
        self._emit(events.PARAM, name, payload)

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        self._check_name("log_text", name)
        text = resolve(text)
        if not isinstance(text, str):
            raise self._refused("log_text", name, f"it takes a text, not {_a(text)}")
        at = self._whole("log_text", name, step)
        self._reporter.text(name, text, at, scope=self._scope)

    def log_table(self, name: str, rows: Any) -> None:
        from pipedeco.media import table_of

        self._check_name("log_table", name)
        try:
            columns, cells = table_of(resolve(rows))
        except (TypeError, ValueError) as error:
            raise self._refused("log_table", name, str(error)) from error
        data = json.dumps({"columns": columns, "rows": cells}).encode()
        known = {"columns": columns[:50], "rows": len(cells), "size": len(data)}
        self._emit(events.TABLE, name, {**known, "blob": self._reporter.put(data)})

    def log_figure(self, name: str, figure: Any, step: int | None = None) -> None:
        self._media(events.FIGURE, name, figure, step)

    def log_image(self, name: str, image: Any, step: int | None = None) -> None:
        self._media(events.IMAGE, name, image, step)

    def log_artifact(self, name: str, artifact: Any) -> None:
        self._check_name("log_artifact", name)
        artifact = resolve(artifact)
        self._emit(events.ARTIFACT, name, self._kept("log_artifact", name, artifact))

    def log_model(self, name: str, model: Any, framework: str | None = None) -> None:
        self._check_name("log_model", name)
        model = resolve(model)
        kept = self._kept("log_model", name, model)
        self._emit(events.MODEL, name, {**kept, "framework": framework or framework_of(model)})

    def add_tags(self, *tags: str) -> None:
        given: tuple[Any, ...] = resolve(tags)
        for tag in given:
            if not isinstance(tag, str) or not tag:
                raise self._refused("add_tags", "", f"a tag is a text, not {tag!r}")
        for tag in given:
            self._emit(events.TAG, tag, None)

    def _emit(self, kind: str, name: str, payload: Any) -> None:
        self._reporter.emit(kind, name, payload, scope=self._scope)

    def _media(self, kind: str, name: str, value: Any, step: Any) -> None:
        from pipedeco import media

        call = f"log_{kind}"
        self._check_name(call, name)
        at = self._whole(call, name, step)
        encode = media.figure_media if kind == events.FIGURE else media.image_media
        try:
            encoded = encode(resolve(value))
        except (TypeError, ValueError, OSError, ImportError) as error:
            raise self._refused(call, name, str(error)) from error
        self._reporter.media(kind, name, encoded, at, scope=self._scope)

    def _kept(self, call: str, name: str, value: Any) -> dict[str, Any]:
        from pipedeco import artifacts

        blobs = self._reporter.blobs
        if blobs is None:  # reported nowhere
            return {}
        try:
            return artifacts.keep(value, blobs, "it")
        except FileNotFoundError:
            text = "; a text of its own goes with log_text" if call == "log_artifact" else ""
            why = f"there is no file {os.fspath(value)!r}{text}"
            raise self._refused(call, name, why) from None
        except NotPicklable as error:
            why = str(error).partition("; pass what")[0]
            raise self._refused(call, name, f"{why}; keep what it can be made of again") from error
        except (ValueError, OSError) as error:
            raise self._refused(call, name, str(error)) from error

    def _number(self, call: str, name: Any, value: Any, rule: str) -> float:
        """A number of another library's as Python's own."""
        value = resolve(value)
        if not isinstance(value, str | bytes):
            try:
                plain = value.item() if hasattr(value, "item") else value
                return int(plain) if isinstance(plain, int) else float(plain)
            except (TypeError, ValueError, RuntimeError):
                pass
        cure = "; make it one with float(...)" if isinstance(value, str) else ""
        raise self._refused(call, name, f"{rule}, not {_a(value)}: {preview(value)[:60]}{cure}")

    def _whole(self, call: str, name: str, step: Any) -> int | None:
        if step is None:
            return None
        try:
            return int(step.__index__())
        except (AttributeError, TypeError):
            why = f"step is a whole number, not {_a(step)}"
            raise self._refused(call, name, why) from None

    def _check_name(self, call: str, name: Any) -> None:
        if not isinstance(name, str) or not name:
            raise self._refused(call, name, "a name is a text that is not empty")

    def _refused(self, call: str, name: Any, why: str) -> ReportError:
        what = f"{call}({name!r})" if name != "" else call
        step = self._reporter.step
        return ReportError(
            f"{what} in {self._reporter.where()}: {why}",
            run=self._reporter.run or None,
            step=step.name if step is not None else None,
        )


class CurrentStep(ReportCalls):
    """The step that is being performed: `name`, `component`, `attempt`, `run` (its id)."""

    @property
    def name(self) -> str:
        return self._name.name

    @property
    def component(self) -> str:
        return self._name.component

    @property
    def attempt(self) -> int:
        return self._name.attempt

    @property
    def run(self) -> str:
        return self._reporter.run

    def set_progress(self, share: float) -> None:
        number = self._number("set_progress", "", share, "it takes a number from 0 to 1")
        if not -ROUNDING <= number <= 1.0 + ROUNDING:
            why = f"it takes a number from 0 to 1, not {number!r}"
            raise self._refused("set_progress", "", why)
        self._reporter.progress(min(1.0, max(0.0, float(number))))

    @property
    def _name(self) -> StepName:
        return self._reporter.step or self._reporter.name_of(None)

    def __repr__(self) -> str:
        return f"<current step {self.name} of run {self.run}>"


class CurrentRun(ReportCalls):
    """The run whose body or step is being performed: `id`, `pipeline` (its name)."""

    @property
    def id(self) -> str:
        return self._reporter.run

    @property
    def pipeline(self) -> str:
        return self._reporter.pipeline

    def __repr__(self) -> str:
        return f"<current run {self.id} of {self.pipeline}>"


def current_step() -> CurrentStep:
    """The step that is being performed here.

    Raises RunNotFound outside of a step; with PIPEDECO_STRICT=0 what is reported there is dropped.
    """
    reporter = _present("current_step()")
    if reporter.call is None:
        raise RunNotFound(
            f"current_step() is called in {reporter.where()}, which is no step; current_run() is "
            "there"
        )
    return CurrentStep(reporter, OF_STEP)


def current_run() -> CurrentRun:
    """The run whose body or step is being performed here; what is logged on it is the run's.

    Raises RunNotFound outside of a run; with PIPEDECO_STRICT=0 what is reported there is dropped.
    """
    return CurrentRun(_present("current_run()"), OF_RUN)


def log_metric(name: str, value: float, step: int | None = None) -> None:
    """Report a point of a metric, on the step that is being performed, in a body on the run.

    Parameters
    ----------
    name: any text.
    value: a number; NaN and infinities are kept.
    step: a count of your own (an epoch, a batch), for the axis of a plot.

    Raises ReportError for what is no number, and RunNotFound outside of a run.
    """
    _here("log_metric").log_metric(name, value, step)


def log_metrics(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Report a point of each metric of a dict; as log_metric."""
    _here("log_metrics").log_metrics(metrics, step)


def log_param(name: str, value: Any) -> None:
    """Report a parameter that was found or chosen while running; numbers and texts as they are,
    anything else by its preview."""
    _here("log_param").log_param(name, value)


def log_text(name: str, text: str, step: int | None = None) -> None:
    """Report a text of any length."""
    _here("log_text").log_text(name, text, step)


def log_table(name: str, rows: Any) -> None:
    """Report a table.

    Parameters
    ----------
    rows: a list of dicts, of sequences, of dataclasses or named tuples; a dict of columns; a
        DataFrame of pandas or polars, a Table of pyarrow.

    Raises ReportError for anything else.
    """
    _here("log_table").log_table(name, rows)


def log_figure(name: str, figure: Any, step: int | None = None) -> None:
    """Report a figure: of matplotlib, plotly or PIL, or the bytes of an SVG, PNG, JPEG, GIF or WebP.

    Raises ReportError for anything else.
    """
    _here("log_figure").log_figure(name, figure, step)


def log_image(name: str, image: Any, step: int | None = None) -> None:
    """Report an image: what log_figure takes, an array (height x width [x channels], uint8 or
    0 to 1), or the path of a file.

    Raises ReportError for anything else.
    """
    _here("log_image").log_image(name, image, step)


def log_artifact(name: str, artifact: Any) -> None:
    """Keep an object, or the file or folder of a path, under a name.

    Parameters
    ----------
    artifact: a str or a path means the file or folder there, which is copied now; anything else
        is pickled.

    Raises ReportError where nothing is at that path, or the object cannot be pickled.
    """
    _here("log_artifact").log_artifact(name, artifact)


def log_model(name: str, model: Any, framework: str | None = None) -> None:
    """Keep a model, an object or the file or folder of a path, under a name.

    Parameters
    ----------
    framework: what made it; by default what the object's module or the file's name tells.

    Raises ReportError as log_artifact does.
    """
    _here("log_model").log_model(name, model, framework)


def set_progress(share: float) -> None:
    """Tell how far the step is, from 0 to 1.

    Raises ReportError for another number, and RunNotFound outside of a step.
    """
    reporter = _present("set_progress")
    if reporter.call is None:
        raise RunNotFound(
            f"set_progress is called in {reporter.where()}; it is for steps, and a run's progress is "
            "that of its steps"
        )
    CurrentStep(reporter, OF_STEP).set_progress(share)


def add_tags(*tags: str) -> None:
    """Tag the step that is being performed, in a body the run."""
    _here("add_tags").add_tags(*tags)


def get_logger(name: str = "pipedeco.step") -> logging.Logger:
    """A logger whose records stand in the step's log with their time and level, whatever the
    level and however logging is set up."""
    import logging

    logger = logging.getLogger(name)
    kind = stderr_handler()
    if not any(isinstance(handler, kind) for handler in logger.handlers):
        handler = kind()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logger.level or logging.DEBUG)
    return logger


@cache
def stderr_handler() -> type[logging.Handler]:
    """Writes to what sys.stderr is at that moment, which is another for each step."""
    import logging

    class StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
        stream = property(lambda self: sys.stderr, lambda self, stream: None)

    return StderrHandler


def _own_number(value: Any) -> Any:
    """A number of numpy's, or of its like, as Python's own; anything else as it is."""
    if hasattr(value, "item") and hasattr(value, "dtype"):
        try:
            return value.item()
        except (TypeError, ValueError, RuntimeError):  # an array of several
            pass
    return value


def framework_of(model: Any) -> str | None:
    """What made a model, by its module or by the suffix of its file."""
    from pipedeco.artifacts import is_path

    if is_path(model):
        return SUFFIXES.get(os.path.splitext(os.fspath(model))[1].lower())
    root = str(type(model).__module__).partition(".")[0]
    return None if root in ("builtins", "__main__") else root


SUFFIXES = {
    ".pt": "torch",
    ".pth": "torch",
    ".onnx": "onnx",
    ".keras": "keras",
    ".h5": "keras",
    ".joblib": "sklearn",
    ".ubj": "xgboost",
    ".cbm": "catboost",
    ".safetensors": "safetensors",
}


def _here(call: str) -> ReportCalls:
    reporter = _present(call)
    return ReportCalls(reporter, reporter.own_scope)


def _present(call: str) -> Reporter:
    """What reports in this context, or in the thread that a step has started."""
    reporter: Reporter | None = reporting.get()
    if reporter is not None:
        return reporter
    noted = threading.current_thread().__dict__.get("_pipedeco_reporter")
    if noted is not None:
        return _of_thread(call, *noted)
    address = os.environ.get(ADDRESS)
    if address:
        return afar(address, os.getpid())
    if os.environ.get("PIPEDECO_STRICT") == "0":
        return silent()
    raise RunNotFound(
        f"{call} is called outside of any run, so there is nothing to report on; call it in a step "
        "or in the body of a pipeline, or set PIPEDECO_STRICT=0 to have it do nothing there"
    )


def _of_thread(call: str, reporter: Reporter, step: Any) -> Reporter:
    """What reports in a thread that a step has started, as long as the step is performed."""
    if reporter.call is not step or not reporter.run:
        raise RunNotFound(
            f"{call} is called in a thread whose step has ended; a thread that serves several steps "
            "is told which one by contextvars.copy_context().run"
        )
    return reporter


def _a(value: Any) -> str:
    """A value's type, with its article, for errors."""
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
