"""Objects of popular libraries whose reduction is another in each process, or has no content.

*Instruments* are objects that code uses and that decide nothing of what it returns but by how they
are set up: loggers, consoles, clients, engines.  They count by their class and these settings.  What
they lead to (a file, a database, a server) counts as little as what a path leads to.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.nodes import name_of
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.reductions import stream_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNDEFINED_FUNCTION = "sympy.core.function.UndefinedFunction"  # a metaclass
_SETTING = (bool, int, float, str, type(None))

# ---- pydantic


def _pydantic_decorator(value: Any) -> Any:
    """Which method it makes a validator or a serializer, and how; the class has the method."""
    return value.cls_var_name, value.info


def _computed_field(value: Any) -> Any:
    names = [name for name in type(value).__dataclass_fields__ if name != "wrapped_property"]
    return {name: getattr(value, name) for name in names}


def _validated_call(value: Any) -> Any:
    """The function whose arguments it validates, by their annotations, and how."""
    return value.function, value.validate_return, value.config_wrapper.config_dict


# ---- sympy


def _undefined_function(value: Any) -> Any:
    """A class that `Function("f")` makes: its name and what is assumed of it."""
    return value.name, value._kwargs


# ---- omegaconf


def _config(value: Any) -> Any:
    """A node with children: its keys, their nodes, and what it is declared as."""
    content = value.__dict__["_content"]
    if type(content) is str:  # an interpolation, or missing
        return content, _declared(value), _resolved(value)
    return content, _declared(value)


def _config_value(value: Any) -> Any:
    """A leaf; of an interpolation also what it stands for now."""
    return value.__dict__["_val"], _declared(value), _resolved(value)


def _declared(value: Any) -> Any:
    metadata = vars(value.__dict__["_metadata"])
    own = {name: item for name, item in metadata.items() if name not in _NOT_DECLARED}
    extra = ("enum_type", "_struct", "readonly")
    return own, [value.__dict__.get(name) for name in extra]


_NOT_DECLARED = ("resolver_cache", "key")


def _resolved(value: Any) -> Any:
    if not value._is_interpolation():
        return None
    cache = value._get_root().__dict__["_metadata"].resolver_cache
    before = {name: dict(known) for name, known in cache.items()}
    try:
        found = value._maybe_dereference_node()
        return found if found is not value else None
    except Exception as error:  # noqa: BLE001 - a resolver of the user's: the step will see it
        return "fails", name_of(type(error))
    finally:  # looking at it decides nothing
        cache.clear()
        cache.update(before)


# ---- numba


def _dispatcher(value: Any) -> Any:
    """A compiled function: what it was compiled from, and how; not what it was called with."""
    signatures = None if value._can_compile else [str(one) for one in value.nopython_signatures]
    return value.py_func, dict(value.targetoptions), _texts(value.locals), signatures


def _vectorized(value: Any) -> Any:
    types = list(value.types) if value._frozen else None
    return value._dispatcher, types, value.identity


def _callback(value: Any) -> Any:
    return value._pyfunc, str(value._sig)


def _jit_class(value: Any) -> Any:
    """What a jitclass is compiled from: its fields by type, and its functions."""
    methods = value.jit_methods, value.jit_props, value.jit_static_methods
    return value.class_name, list(_texts(value.struct).items()), methods


def _texts(value: Any) -> dict[str, str]:
    return {str(name): str(item) for name, item in value.items()}


# ---- numcodecs


def _codec(value: Any) -> Any:
    """As it is written down in an array's metadata."""
    return type(value), value.get_config()


# ---- spaCy


def _language(value: Any) -> Any:
    """Its settings and weights, and the code of its components; not the words that it has met."""
    vocab = value.vocab
    names = [name for name, _ in value.components]
    data = value.to_bytes(exclude=["vocab", *names]), vocab.vectors.to_bytes()
    parts = [(name, _language_part(part)) for name, part in value.components]
    return type(value), type(value.tokenizer), data, vocab.lookups.to_bytes(), parts


def _language_part(part: Any) -> Any:
    if type(part) is FunctionType:
        return part
    if name_of(type(part)) == "spacy.pipeline.sentencizer.Sentencizer":
        return type(part), set(part.punct_chars)  # its bytes have them in any order
    return type(part), part.to_bytes(exclude=["vocab"]) if hasattr(part, "to_bytes") else part


def _document(value: Any) -> Any:
    return value.to_bytes(exclude=["strings"])  # a set of its words, in any order


# ---- numpy and Python: the generators that a module hides


def _random_state(value: Any) -> Any:
    """Its state; of the one behind `numpy.random.rand` its name, as for that function."""
    if value is getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None):
        return "numpy.random.mtrand._rand"
    return value.get_state(legacy=False)


# ---- instruments


def _stream(value: Any) -> Any:
    """A standard stream, by its name."""
    name = stream_name(value)
    if not name:
        raise Unproven("it is open, and stands somewhere in its file; pass the path")
    return name


def _logger(_value: Any) -> Any:
    return "logger"


def _console(value: Any) -> Any:
    """A console of rich: how it renders; not whether there is a terminal just now."""
    names = sorted(vars(value).keys() - _OF_TERMINALS)
    settings = [(name, vars(value)[name]) for name in names if type(vars(value)[name]) in _SETTING]
    themes = getattr(value._thread_locals.theme_stack, "_entries", ())
    styles = [{name: str(style) for name, style in theme.items()} for theme in themes]
    return type(value), settings, styles


_OF_TERMINALS = frozenset(("is_interactive", "is_jupyter", "_is_alt_screen"))


def _engine(value: Any) -> Any:
    """An engine of SQLAlchemy: where it leads to."""
    url = value.url
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise Unproven("its database is in the memory of this process")
    return url.render_as_string(hide_password=True)


def _async_engine(value: Any) -> Any:
    return value.sync_engine


def _http_client(value: Any) -> Any:
    """A client of httpx: how it is set up; a transport only where it is the user's."""
    names = vars(value)
    own = {name: item for name, item in names.items() if name in _OF_CLIENTS}
    mounts = {pattern.pattern: _transport(item) for pattern, item in names["_mounts"].items()}
    cookies = sorted((c.domain, c.path, c.name, c.value or "") for c in names["_cookies"].jar)
    headers = [(name.lower(), text) for name, text in names["_headers"].raw]
    timeout = names["_timeout"].as_dict()
    address = str(names["_base_url"]), str(names["_params"])
    more = headers, timeout, cookies, mounts, _transport(names["_transport"])
    return type(value), own, address, more


_OF_CLIENTS = ("_auth", "follow_redirects", "max_redirects", "_event_hooks", "_trust_env")


def _transport(value: Any) -> Any:
    own = name_of(type(value)) in ("httpx.HTTPTransport", "httpx.AsyncHTTPTransport")
    return None if own else value


def checked_by_beartype(found: FunctionType) -> tuple[FunctionType, Sequence[Any]] | None:
    """The function that beartype checks the calls of, and how it does; None of any other.

    Its wrapper follows from these two. The text of it has addresses within it.
    """
    if not found.__code__.co_filename.startswith("<@beartype("):
        return None
    defaults = found.__kwdefaults__ or {}
    function = found.__dict__.get("__wrapped__") or defaults.get("__beartype_func")
    if type(function) is not FunctionType:
        return None
    settings = getattr(defaults.get("__beartype_conf"), "kwargs", None)
    return function, [] if settings is None else [dict(settings)]


EXACT: dict[str, Callable[[Any], Any]] = {
    "pydantic._internal._decorators.Decorator": _pydantic_decorator,
    "pydantic.fields.ComputedFieldInfo": _computed_field,
    "pydantic._internal._validate_call.ValidateCallWrapper": _validated_call,
    UNDEFINED_FUNCTION: _undefined_function,
    "numba.np.ufunc.dufunc.DUFunc": _vectorized,
    "numba.core.ccallback.CFunc": _callback,
    "numba.core.types.misc.ClassType": _jit_class,
    "_io.TextIOWrapper": _stream,
    "spacy.tokens.doc.Doc": _document,
    "numpy.random.mtrand.RandomState": _random_state,
    "loguru._logger.Logger": _logger,
    "sqlalchemy.engine.base.Engine": _engine,
    "sqlalchemy.ext.asyncio.engine.AsyncEngine": _async_engine,
}

BASES: dict[str, Callable[[Any], Any]] = {
    "omegaconf.basecontainer.BaseContainer": _config,
    "omegaconf.nodes.ValueNode": _config_value,
    "numba.core.dispatcher.Dispatcher": _dispatcher,
    "numcodecs.abc.Codec": _codec,
    "spacy.language.Language": _language,
    "rich.console.Console": _console,
    "httpx.Client": _http_client,
    "httpx.AsyncClient": _http_client,
}
