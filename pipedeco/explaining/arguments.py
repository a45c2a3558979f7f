"""Previews of recorded arguments.  Nothing of the user's is imported or executed for them."""

from __future__ import annotations

import io
import json
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

from pipedeco.outputs import taken
from pipedeco.text import preview

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipedeco.blobs import BlobStore
    from pipedeco.explaining.records import Records, Row

LARGEST = 1 << 20  # bytes of a pickle that is looked into; arrays stand beside it
DEFAULT = "its default"
# What previews show the content of, and whose making does nothing else.
_HARMLESS = {
    "builtins": {"complex", "frozenset", "set"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "pathlib": {"Path", "PosixPath", "PurePath", "PurePosixPath"},
    "uuid": {"UUID"},
}


def shown_arguments(records: Records, step: Row) -> dict[str, str] | None:
    """Previews by the names that keys have for arguments; None where they cannot be had.

    An argument that is left out is not among them.
    """
    row = records.arguments(step)
    names = [records.named(one)["name"] for one in row["inputs"]]
    try:
        args, kwargs = _loaded(row["args"], records.blobs, names)
        parameters = json.loads(records.component(step)["parameters"])
        return _named(args, kwargs, parameters)
    except Exception:  # noqa: BLE001 - a pickle may hold anything; it is only looked at
        return None


def _named(args: Iterable[Any], kwargs: dict[str, Any], parameters: list[str]) -> dict[str, str]:
    found = {}
    for i, value in enumerate(args):
        name = parameters[i] if i < len(parameters) else f"args[{i}]"
        found[name] = found[f"{name} (argument {i})"] = preview(value)
    for name, value in kwargs.items():
        found[f"**{name!r}"] = preview(value)
        found.setdefault(name, preview(value))
    return found


def _loaded(packed: Any, blobs: BlobStore, names: list[str]) -> Any:
    if packed is None:
        return (), {}
    main, *buffers = blobs.get(packed) if isinstance(packed, str) else [packed]
    if len(main) > LARGEST:
        raise ValueError("it is too large to be looked into")
    return _Looker(bytes(main), buffers, names).load()


class _Looker(pickle.Unpickler):
    """Loads what plain types hold; all else becomes something that only has a name.

    Parameters
    ----------
    data, buffers: the pickle.
    names: of the steps whose values stand in it.
    """

    def __init__(self, data: bytes, buffers: Iterable[Any], names: list[str]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._names = names

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("pipedeco.serialization", "given_input"):
            return self._given
        if (module, name) == ("functools", "partial"):
            return partial(_Inband, self._names)
        if name in _HARMLESS.get(module, ()):
            return super().find_class(module, name)
        word = name.rpartition(".")[2]
        return _stand_in(name if word[:1].isupper() else "...")  # a class, or a function

    def _given(self, number: int, path: tuple[tuple[str, Any], ...] = ()) -> Any:
        return _stand_in(self._names[number] + "".join([taken(*part) for part in path]))()


class _Inband:
    """Stands for `partial(pickle.loads, buffers=...)`, by which a pickle holds its buffers."""

    def __init__(self, names: list[str], _function: Any) -> None:
        self._names = names
        self._buffers: list[Any] = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._buffers = (state[2] or {}).get("buffers", [])

    def __call__(self, data: bytes) -> Any:
        return _Looker(data, self._buffers, self._names).load()


class _StandIn:
    """Takes whatever a pickle does to an object, and keeps nothing."""

    def __new__(cls, *_args: Any, **_options: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def add(self, item: Any) -> None:
        pass


def _stand_in(name: str) -> type[_StandIn]:
    return type(name, (_StandIn,), {"__qualname__": name})
