"""Data that is somewhere else than in the object: arrays on a disk, tables not read yet, graphs of work.

Such an object stays the same while what it stands for changes.  It has no fingerprint, so that
nothing is ever served for it that is stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.nodes import Node, name_of
from pipedeco.fingerprint.objects import State, opened_object
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable

ON_DISK = (
    "its content lies in a store, which may change; read it before, or pass a File of its path"
)
NOT_READ = "what it will read is not known yet; read it before, or pass a File of its path"
NOT_COMPUTED = "what it will read or compute is not known yet; compute it before"
_IN_MEMORY = "zarr.storage._memory.MemoryStore"


def _zarr(value: Any) -> Node:
    if name_of(type(getattr(value, "store", None))) == _IN_MEMORY:
        return opened_object(value)
    raise Unproven(ON_DISK)


def _on_disk(_value: Any) -> Any:
    raise Unproven(ON_DISK)


def _not_read(_value: Any) -> Any:
    raise Unproven(NOT_READ)


def _not_computed(_value: Any) -> Any:
    raise Unproven(NOT_COMPUTED)


def _xarray_variable(value: Any) -> Any:
    if not value._in_memory:
        raise Unproven("its values were not read yet; call load() or compute() before")
    return _xarray_state(value, "_dims", "_data", "_attrs", "_encoding")


def _xarray_dataset(value: Any) -> Any:
    """All but the file that it came from and what it found out about itself."""
    return _xarray_state(
        value, "_variables", "_coord_names", "_dims", "_attrs", "_encoding", "_indexes"
    )


def _xarray_array(value: Any) -> Any:
    return _xarray_state(value, "_variable", "_coords", "_name", "_indexes")


def _xarray_state(value: Any, *names: str) -> Any:
    """Attributes of a value; mappings that are made when they are read first count as missing."""
    parts = ((name, getattr(value, name)) for name in names)
    return State((name, None if type(part) is dict and not part else part) for name, part in parts)


EXACT: dict[str, Callable[[Any], Any]] = {
    "xarray.core.dataset.Dataset": _xarray_dataset,
    "xarray.core.dataarray.DataArray": _xarray_array,
}

BASES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        (
            "zarr.core.array.Array",
            "zarr.core.array.AsyncArray",
            "zarr.core.group.Group",
            "zarr.core.group.AsyncGroup",
            "zarr.core.Array",  # before version 3
            "zarr.hierarchy.Group",
        ),
        _zarr,
    ),
    "tensorstore.TensorStore": _on_disk,
    "pyarrow._dataset.Dataset": _not_read,
    "pyarrow._dataset.Fragment": _not_read,
    "dask.base.DaskMethodsMixin": _not_computed,
    "dask.highlevelgraph.HighLevelGraph": _not_computed,
    "xarray.core.variable.Variable": _xarray_variable,
}
