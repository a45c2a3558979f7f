"""The frozen options of components and pipelines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipedeco.errors import ConfigError
from pipedeco.requirements import check_packages, check_python

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from typing import Self

MODES = ("debug", "local", "remote")

# Options that are functions of the user's for the controller, and what stands for none of them.
_CALLBACKS = {
    "before_step": None,
    "after_step": None,
    "on_status_change": None,
    "on_run_end": None,
    "callbacks": (),
    "setup": None,  # which reaches workers by itself
}


class _Frozen:
    """A set of named options that never changes; `replace` makes another."""

    __slots__: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"options are frozen; use with_options({name}=...)")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.as_dict())

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.as_dict().items())
        return f"{type(self).__name__}({options})"

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def replace(self, **changes: Any) -> Self:
        """These options with some changed; an unknown name raises ConfigError."""
        for name in changes:
            if name not in self.__slots__:
                import difflib

                near = difflib.get_close_matches(name, self.__slots__, 3, 0.65)
                known = ", ".join(sorted(self.__slots__))
                hint = f"did you mean {' or '.join(near)}? The" if near else "the"
                raise ConfigError(f"there is no option {name!r}; {hint} options are {known}")
        return type(self)(**{**self.as_dict(), **changes})

    def without_callbacks(self) -> Self:
        """For workers: callbacks are called in the controller alone, and need not travel."""
        unused = [name for name in _CALLBACKS if getattr(self, name, None)]
        return self.replace(**{name: _CALLBACKS[name] for name in unused}) if unused else self

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _rebuild(kind: type[_Frozen], values: dict[str, Any]) -> _Frozen:
    return kind(**values)


class Cache(_Frozen):
    """How the results of a component are found again.

    Parameters
    ----------
    ttl: seconds (or a timedelta) for which a result serves; for ever by default.
    ignore: names of parameters that do not count.
    version: counts beside the code, such as a number that is raised by hand.
    refresh: perform each time, and replace what is known.

    Raises ConfigError for a value that cannot be.
    """

    __slots__ = ("ignore", "refresh", "ttl", "version")

    ttl: float | None
    ignore: tuple[str, ...]
    version: str | None
    refresh: bool

    def __init__(
        self,
        *,
        ttl: float | timedelta | None = None,
        ignore: Sequence[str] = (),
        version: object = None,
        refresh: bool = False,
    ) -> None:
        if ttl is not None and hasattr(ttl, "total_seconds"):
            ttl = ttl.total_seconds()
        names = (ignore,) if isinstance(ignore, str) else _sequence("ignore", ignore)
        self._set(
            ttl=None if ttl is None else _seconds("ttl", ttl, above_zero=True),
            ignore=tuple(map(str, names)),
            version=None if version is None else str(version),
            refresh=bool(refresh),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cache) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))


class ComponentOptions(_Frozen):
    """How a component's steps are performed; see `pipedeco.component` for each option."""

    __slots__ = (
        "after_step",
        "allow_failure",
        "auto_log",
        "before_step",
        "cache",
        "callbacks",
        "collect",
        "depends_on",
        "draft",
        "fresh_process",
        "monitor_artifacts",
        "monitor_metrics",
        "monitor_models",
        "name",
        "on_status_change",
        "outputs",
        "packages",
        "priority",
        "python",
        "queue",
        "resources",
        "retries",
        "retry_delay",
        "retry_on",
        "stage",
        "tags",
        "timeout",
    )

    name: str | None
    cache: Cache | None
    retries: int
    retry_delay: float | tuple[float, ...] | Callable[[int], float]
    retry_on: tuple[type[BaseException], ...] | Callable[[BaseException], bool]
    timeout: float | None
    outputs: tuple[str, ...] | int | None
    priority: int
    queue: str | None
    resources: tuple[tuple[str, float | str], ...]
    packages: tuple[str, ...] | str | None  # a text is the path of a file of them
    python: str | None
    allow_failure: bool
    fresh_process: bool
    depends_on: tuple[Any, ...]
    monitor_metrics: tuple[tuple[str, str], ...]
    monitor_artifacts: tuple[tuple[str, str], ...]
    monitor_models: tuple[tuple[str, str], ...]
    stage: str | None
    tags: tuple[str, ...]
    auto_log: bool | None
    collect: tuple[str, ...]
    draft: bool
    before_step: Callable[..., Any] | None
    after_step: Callable[..., Any] | None
    on_status_change: Callable[..., Any] | None
    callbacks: tuple[Any, ...]

    def __init__(
        self,
        *,
        name: str | None = None,
        cache: bool | Cache | None = None,
        retries: int = 0,
        retry_delay: float | Sequence[float] | Callable[[int], float] = 0.0,
        retry_on: Any = (Exception,),
        timeout: float | None = None,
        outputs: Sequence[str] | int | None = None,
        priority: int = 0,
        queue: str | None = None,
        resources: Mapping[str, float | str] | Sequence[tuple[str, float | str]] = (),
        packages: Any = None,
        python: str | None = None,
        allow_failure: bool = False,
        fresh_process: bool = False,
        depends_on: Sequence[Any] = (),
        monitor_metrics: Sequence[str | tuple[str, str]] = (),
        monitor_artifacts: Sequence[str | tuple[str, str]] = (),
        monitor_models: Sequence[str | tuple[str, str]] = (),
        stage: str | None = None,
        tags: Sequence[str] = (),
        auto_log: bool | None = None,
        collect: Sequence[str] = (),
        draft: bool = False,
        before_step: Callable[..., Any] | None = None,
        after_step: Callable[..., Any] | None = None,
        on_status_change: Callable[..., Any] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._set(
            name=_name(name),
            cache=_cache(cache),
            before_step=_function("before_step", before_step),
            after_step=_function("after_step", after_step),
            on_status_change=_function("on_status_change", on_status_change),
            callbacks=_callbacks(callbacks, of_steps=True),
            draft=bool(draft),
            retries=_count("retries", retries),
            retry_delay=_retry_delay(retry_delay),
            retry_on=_retry_on(retry_on),
            timeout=None if timeout is None else _seconds("timeout", timeout, above_zero=True),
            outputs=_outputs(outputs),
            priority=_whole_number("priority", priority),
            queue=_name(queue),
            resources=_resources(resources),
            packages=check_packages(packages),
            python=check_python(python),
            allow_failure=bool(allow_failure),
            fresh_process=bool(fresh_process),
            depends_on=_sequence("depends_on", depends_on),
            monitor_metrics=_monitors("monitor_metrics", monitor_metrics),
            monitor_artifacts=_monitors("monitor_artifacts", monitor_artifacts),
            monitor_models=_monitors("monitor_models", monitor_models),
            stage=_name(stage),
            tags=check_tags(tags),
            auto_log=None if auto_log is None else bool(auto_log),
            collect=check_patterns("collect", collect),
        )

    @property
    def monitors(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Those that are set, by what they mirror."""
        found = {
            "metrics": self.monitor_metrics,
            "artifacts": self.monitor_artifacts,
            "models": self.monitor_models,
        }
        return {kind: monitors for kind, monitors in found.items() if monitors}

    @property
    def holds_steps(self) -> bool:
        """Whether somebody is asked before a step of it goes on, or told of it."""
        return bool(
            self.draft
            or self.before_step
            or self.after_step
            or self.on_status_change
            or self.callbacks
        )


class PipelineOptions(_Frozen):
    """How a pipeline's runs go; see `pipedeco.pipeline` for each option."""

    __slots__ = (
        "after_step",
        "auto_log",
        "before_step",
        "cache",
        "callbacks",
        "default_queue",
        "mode",
        "name",
        "on_failure",
        "on_run_end",
        "on_status_change",
        "refresh",
        "seed",
        "setup",
        "start_method",
        "store",
        "tags",
        "version",
        "workers",
    )

    name: str | None
    version: str | None
    mode: str | None
    workers: int | None
    on_failure: str
    start_method: str | None
    store: str | None
    default_queue: str | None
    cache: bool
    refresh: bool | tuple[str, ...]
    tags: tuple[str, ...]
    auto_log: bool
    seed: int | None
    setup: Callable[[], Any] | None
    before_step: Callable[..., Any] | None
    after_step: Callable[..., Any] | None
    on_status_change: Callable[..., Any] | None
    on_run_end: Callable[..., Any] | None
    callbacks: tuple[Any, ...]

    def __init__(
        self,
        *,
        name: str | None = None,
        version: str | None = None,
        mode: str | None = None,
        workers: int | None = None,
        on_failure: str = "continue",
        start_method: str | None = None,
        store: Any = None,
        default_queue: str | None = None,
        cache: bool = True,
        refresh: bool | str | Sequence[str] = False,
        tags: Sequence[str] = (),
        auto_log: bool = True,
        seed: int | None = None,
        setup: Callable[[], Any] | None = None,
        before_step: Callable[..., Any] | None = None,
        after_step: Callable[..., Any] | None = None,
        on_status_change: Callable[..., Any] | None = None,
        on_run_end: Callable[..., Any] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self._set(
            name=_name(name),
            version=None if version is None else str(version),
            mode=check_mode(mode),
            workers=check_workers(workers),
            on_failure=_one_of("on_failure", on_failure, ("continue", "abort")),
            start_method=check_start_method(start_method),
            store=None if store is None else str(store),
            default_queue=_name(default_queue),
            cache=bool(cache),
            refresh=_refresh(refresh),
            tags=check_tags(tags),
            auto_log=bool(auto_log),
            seed=check_seed(seed),
            setup=check_setup(setup),
            before_step=_function("before_step", before_step),
            after_step=_function("after_step", after_step),
            on_status_change=_function("on_status_change", on_status_change),
            on_run_end=_function("on_run_end", on_run_end),
            callbacks=_callbacks(callbacks),
        )


def check_queues(queues: Any) -> dict[str, str] | None:
    """Names of queues and the URLs of their engines."""
    if queues is None:
        return None
    pairs = queues.items() if isinstance(queues, dict) else ()
    if not isinstance(queues, dict) or not all(
        isinstance(name, str) and isinstance(url, str) and "://" in url for name, url in pairs
    ):
        raise ConfigError(
            f"queues is a table of names and URLs of engines, such as default = 'local://2', "
            f"not {queues!r}"
        )
    return dict(pairs)


def check_blobs(url: Any) -> str | None:
    """The URL of a folder of values."""
    if url is None:
        return None
    if not isinstance(url, str) or not url.partition("://")[2]:
        raise ConfigError(
            f"blobs is the URL of a folder, such as 's3://bucket/team' or 'file:///mnt/team', not "
            f"{url!r}"
        )
    protocol, _, place = url.partition("://")
    if protocol in ("file", "local") and not place.startswith("/"):
        raise ConfigError(
            f"{url!r} names a folder of whoever reads it: say where it is, as in 'file:///mnt/team'"
        )
    if protocol == "memory":
        raise ConfigError(f"{url!r} is seen by one process alone, and workers are others")
    account = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if "?" in url or "#" in url or ":" in account:
        raise ConfigError(
            "the URL of blobs has no options and no password; fsspec takes them from the environment "
            "of each process, such as FSSPEC_S3_KEY, or from ~/.config/fsspec/"
        )
    return url


def check_store(folder: Any) -> str | None:
    """The path of the folder of the store."""
    if folder is None:
        return None
    if not isinstance(folder, str) or not folder.strip():
        raise ConfigError(f"store is the path of a folder, not {folder!r}")
    if "://" in folder:
        raise ConfigError(
            f"a store is a folder in this version, not the address {folder!r}; values of remote "
            "steps go to an address with blobs=..., PIPEDECO_BLOBS or [tool.pipedeco] blobs"
        )
    return folder


def check_code_limit(limit: Any) -> int | None:
    return None if limit is None else _count("code_limit", limit)


def check_code_include(patterns: Any) -> tuple[str, ...] | None:
    return None if patterns is None else check_patterns("code_include", patterns)


def check_mode(mode: str | None) -> str | None:
    return None if mode is None else _one_of("mode", mode, MODES)


def check_start_method(method: str | None) -> str | None:
    return None if method is None else _one_of("start_method", method, ("nursery", "spawn"))


def check_main(main: str | None) -> str | None:
    return None if main is None else _one_of("main", main, ("import", "definitions"))


def check_progress(progress: str | None) -> str | None:
    return _one_of("progress", progress, ("auto", "full", "off")) if progress else None


def check_seed(seed: Any) -> int | None:
    """A whole number, such as NumPy's are, too."""
    if seed is None:
        return None
    plain = isinstance(seed, bool) or not hasattr(seed, "__index__")
    return _whole_number("seed", seed if plain else seed.__index__())


def check_setup(setup: Any) -> Callable[[], Any] | None:
    """A function that can be called without arguments, and is done when it returns."""
    if setup is None:
        return None
    if not callable(setup):
        raise ConfigError(f"setup is a function, not {setup!r}")
    import inspect

    name = getattr(setup, "__qualname__", repr(setup))
    if inspect.iscoroutinefunction(getattr(setup, "fn", setup)):
        raise ConfigError(f"setup={name} is async; let a plain function call asyncio.run")
    try:
        inspect.signature(setup).bind()
    except TypeError as error:
        raise ConfigError(f"setup={name} is called without arguments: {error}") from None
    except ValueError:  # a function in C that does not tell
        pass
    found: Callable[[], Any] = setup
    return found


def check_workers(workers: int | None) -> int | None:
    if workers is None:
        return None
    if _count("workers", workers) < 1:
        raise ConfigError("workers must be at least 1")
    return workers


def _cache(value: Any) -> Cache | None:
    if value is None or value is False:
        return None
    if value is True:
        return Cache()
    if not isinstance(value, Cache):
        raise ConfigError(f"cache is True, False or pipedeco.Cache(...), not {value!r}")
    return value


def _refresh(value: Any) -> bool | tuple[str, ...]:
    if isinstance(value, bool):
        return value
    names = (value,) if isinstance(value, str) else _sequence("refresh", value)
    if "all" in names:
        return True
    return tuple(map(str, names))


def _one_of(option: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigError(f"{option} is one of {', '.join(allowed)}, not {value!r}")
    return str(value)


def _name(name: Any) -> str | None:
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigError(f"a name is a text that is not empty, not {name!r}")
    return name


def _count(option: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{option} is a whole number of 0 or more, not {value!r}")
    return value


def _seconds(option: str, value: Any, *, above_zero: bool = False) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or value < 0 or not math.isfinite(value) or (above_zero and value == 0):
        least = "above 0" if above_zero else "of 0 or more"
        raise ConfigError(f"{option} is a number of seconds {least}, not {value!r}")
    return float(value)


def _retry_delay(value: Any) -> Any:
    if callable(value):
        return value
    try:
        if isinstance(value, list | tuple) and value:
            return tuple([_seconds("retry_delay", seconds) for seconds in value])
        return _seconds("retry_delay", value)
    except ConfigError:
        raise ConfigError(
            "retry_delay is a number of seconds of 0 or more, a list of them such as [2, 5, 15], "
            f"or a function of the number of the attempt that failed, not {value!r}"
        ) from None


def _retry_on(value: Any) -> Any:
    if isinstance(value, type):
        value = (value,)
    if isinstance(value, list | tuple):
        if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in value):
            return tuple(value)
    elif callable(value):
        return value
    raise ConfigError(
        f"retry_on is an exception type, several, or a function of the exception, not {value!r}"
    )


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} is a whole number, not {value!r}")
    return value


def _resources(value: Any) -> tuple[tuple[str, float | str], ...]:
    """What a step asks of its engine, in the order of the names."""
    pairs = value.items() if isinstance(value, dict) else _sequence("resources", value)
    for pair in pairs:
        good = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and pair[0]
        if not good or isinstance(pair[1], bool) or not isinstance(pair[1], int | float | str):
            raise ConfigError(
                "resources is a dict of names and amounts, such as {'GPU': 1, 'memory': '8GB'}, "
                f"not {value!r}"
            )
    return tuple(sorted(pairs))


def _outputs(value: Any) -> tuple[str, ...] | int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    names = _sequence("outputs", value)
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"outputs is the names of the outputs, or their number, not {value!r}")
    return names


def check_tags(value: Any) -> tuple[str, ...]:
    tags = (value,) if isinstance(value, str) else _sequence("tags", value)
    if not all(isinstance(tag, str) and tag for tag in tags):
        raise ConfigError(f"tags is a list of texts, not {value!r}")
    return tags


def check_patterns(option: str, value: Any) -> tuple[str, ...]:
    """Patterns of paths below a folder."""
    patterns = (value,) if isinstance(value, str) else _sequence(option, value)
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise ConfigError(f"{option} is a list of patterns, such as '*.csv', not {value!r}")
        if pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise ConfigError(f"{option} has patterns of relative paths, not {pattern!r}")
    return patterns


def _monitors(option: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Names, patterns with `*`, or pairs of one and the name on the run."""
    found = []
    for item in (value,) if isinstance(value, str) else _sequence(option, value):
        pair = (item, item) if isinstance(item, str) else item
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ConfigError(f"{option} is a list of names, or of pairs of names, not {value!r}")
        if not all(isinstance(name, str) and name for name in pair):
            raise ConfigError(f"{option} has names that are texts, not {item!r}")
        if pair[1].count("*") > pair[0].count("*"):
            raise ConfigError(f"{option}: {pair[1]!r} has more `*` than {pair[0]!r} stands for")
        found.append((pair[0], pair[1]))
    return tuple(found)


def _sequence(option: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ConfigError(f"{option} is a list, not {value!r}")


def _function(event: str, value: Any) -> Any:
    """A callback by the name of its event."""
    if value is None:
        return None
    if not callable(value):
        raise ConfigError(f"{event} is a function, not {value!r}")
    from pipedeco.callbacks import check_arguments

    check_arguments(event, value)
    return value


def _callbacks(value: Any, *, of_steps: bool = False) -> tuple[Any, ...]:
    """Callback objects; those of a component are told of its steps alone."""
    found = _sequence("callbacks", value)
    if not found:
        return ()
    from pipedeco.callbacks import Callback, check_methods, overrides

    for item in found:
        if isinstance(item, type) and issubclass(item, Callback):
            name = item.__name__
            raise ConfigError(f"callbacks takes objects; {name} is a class: write {name}()")
        if not isinstance(item, Callback):
            raise ConfigError(f"callbacks is a list of pipedeco.Callback objects, not of {item!r}")
        if of_steps and overrides(item, "on_run_end"):
            raise ConfigError(
                f"a component is told of its steps alone, and {type(item).__name__} has "
                "on_run_end; give it to the pipeline: @pipeline(callbacks=[...])"
            )
        check_methods(item)
    return found
