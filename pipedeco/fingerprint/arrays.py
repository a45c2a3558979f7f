"""Arrays of numbers: their buffers go to the hash directly, without a copy where they are contiguous.

Content counts in C order with the exact type of its items, byte order included. A view equals its
copy in the same order, a mapped file an array in memory. Numbers count by their bits: 0.0 is not
-0.0, and nan equals nan of the same bits. The order of axes in memory counts, as code may ask for
it. Where a tensor lies (its device) does not count.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.nodes import KEPT, Node, digest_of_pieces, name_of
from pipedeco.fingerprint.unproven import Unproven

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PIECE = 1 << 24  # bytes that are copied at once where an array is not contiguous

# ---- numpy


def _ndarray(value: Any) -> Node:
    numpy = sys.modules["numpy"]
    array = numpy.asarray(value)
    children = (dtype_key(array.dtype), array.shape, array_content(array), _layout(array))
    return Node(b"13:numpy.ndarray", children, KEPT, _place)


def _layout(array: Any) -> tuple[int, ...] | None:
    """The axes from the slowest to the quickest, where that is not C's order: code may ask for it.

    A view that a copy would make whole in the same order is as good as that copy.
    """
    if array.ndim < 2 or array.size < 2 or array.flags.c_contiguous:
        return None
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    return None if axes == list(range(array.ndim)) else tuple(axes)


def _numpy_scalar(value: Any) -> Node:
    dtype = value.dtype
    if dtype.char in _WHOLE:
        return Node(b"12:numpy.scalar", (_type_of(value), dtype.str, value.tobytes()))
    array = sys.modules["numpy"].asarray(value)
    if array.dtype.hasobject and array.dtype.names is None:
        raise Unproven("it is a scalar of a type that numpy does not tell")
    children = (_type_of(value), dtype_key(array.dtype), array_content(array))
    return Node(b"13:numpy.generic", children, KEPT, _place)


def _type_of(value: Any) -> str | None:
    """The class of a scalar or a dtype that is not numpy's: its own has synonyms, as longlong is."""
    name = name_of(type(value))
    return None if name.startswith("numpy.") else name


_WHOLE = "?bhilqBHILQefdFDSUmM"  # characters of dtypes all of whose bytes count


def _place(_value: Any, _index: int) -> str:
    return ""


def _masked_array(value: Any) -> Any:
    mask = sys.modules["numpy"].ma.getmaskarray(value)
    fill = value.view().fill_value  # of a view: the getter stores what it finds
    return value.data, mask, fill, value.hardmask


def _dtype(value: Any) -> Node:
    return Node(b"11:numpy.dtype", (dtype_key(value),))


def dtype_key(dtype: Any) -> Any:
    """A dtype as plain values."""
    metadata = dict(dtype.metadata) if dtype.metadata else None
    if dtype.names is not None:
        fields = [
            (name, dtype_key(dtype.fields[name][0]), dtype.fields[name][1:]) for name in dtype.names
        ]
        return "struct", fields, dtype.itemsize, dtype.isalignedstruct, metadata
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return "subarray", dtype_key(base), shape
    if dtype.kind == "T":  # texts of any length; not its str, which shows na_object
        return "text", dtype.coerce, _missing(dtype), metadata
    # Types of other packages, such as bfloat16, may share their str with a plain one.
    return _type_of(dtype), dtype.name, dtype.str, metadata


def _missing(dtype: Any) -> tuple[Any, ...]:
    """What stands for a missing text; None is another thing than nothing."""
    return (dtype.na_object,) if hasattr(dtype, "na_object") else ()


def array_content(array: Any) -> Any:
    """The items of an array in C order: a digest of their bytes, or the items where they are objects."""
    dtype = array.dtype
    if dtype.names is not None:  # by field: what lies between them is anything
        return [array_content(array[name]) for name in dtype.names]
    if dtype.hasobject:
        return array.reshape(-1).tolist()
    pieces = _contiguous(array)
    if dtype.char in "gG":
        pieces = map(_without_padding, pieces)
    return digest_of_pieces(_bytes_of(piece) for piece in pieces)


def _bytes_of(piece: Any) -> Any:
    return piece.reshape(-1).view("u1") if piece.size else b""


def _contiguous(array: Any) -> Iterator[Any]:
    """An array as C-contiguous pieces one after the other; copies are small."""
    if array.flags.c_contiguous:
        yield array
    elif array.nbytes <= _PIECE:
        yield array.copy(order="C")
    else:
        rows = max(1, _PIECE // (array.nbytes // len(array) or 1))
        if rows == 1:
            for row in array:
                yield from _contiguous(row)
        else:
            for start in range(0, len(array), rows):
                yield array[start : start + rows].copy(order="C")


def _without_padding(piece: Any) -> Any:
    """A long double of x87 has 10 bytes of 16 (or of 12); the others are anything."""
    numpy = sys.modules["numpy"]
    if numpy.finfo(piece.dtype).nmant != 63 or not piece.size:
        return piece
    width = numpy.dtype("g").itemsize
    return piece.reshape(-1).view("u1").reshape(-1, width)[:, :10].copy()


# ---- scipy


def _sparse(value: Any) -> Any:
    """The arrays of a sparse matrix; not what it found out about them meanwhile."""
    names = _SPARSE_PARTS.get(value.format)
    if names is None:
        return value.__reduce_ex__(4)[2]
    return name_of(type(value)), value.shape, [getattr(value, name) for name in names]


_SPARSE_PARTS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "coords"),
    "dia": ("data", "offsets"),
}


# ---- torch


def _tensor(value: Any) -> Any:
    torch = sys.modules["torch"]
    if value.layout is not torch.strided or value.is_meta or value.is_quantized:
        raise Unproven(
            f"a tensor of layout {value.layout} or without plain data is not looked into"
        )
    plain = value.detach().resolve_conj().resolve_neg()
    kind = (str(value.dtype), tuple(value.shape), _strides(plain), value.requires_grad)
    gradient = value.grad if value.is_leaf else None
    return kind, digest_of_pieces(_tensor_pieces(plain)), gradient, dict(value.__dict__)


def _strides(tensor: Any) -> tuple[int, ...] | None:
    """How a tensor lies in memory, where that is not C's order: `view()` and kernels ask for it."""
    if tensor.is_contiguous():
        return None
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return tuple(step for size, step in pairs if size > 1)


def _tensor_pieces(tensor: Any) -> Iterator[Any]:
    """The memory of a tensor in C order, without numpy, which has not all of its types."""
    import ctypes

    size = tensor.numel() * tensor.element_size()
    if not size:
        return
    if (
        size > _PIECE
        and tensor.dim()
        and not (tensor.is_contiguous() and tensor.device.type == "cpu")
    ):
        for row in tensor:
            yield from _tensor_pieces(row)
        return
    plain = tensor.cpu().contiguous()
    memory = (ctypes.c_ubyte * size).from_address(plain.data_ptr())
    yield memoryview(memory)


EXACT: dict[str, Callable[[Any], Any]] = {
    "numpy.ndarray": _ndarray,
    "numpy.memmap": _ndarray,
    "numpy.ma.MaskedArray": _masked_array,
    "numpy.ma.core.MaskedArray": _masked_array,
    "torch.Tensor": _tensor,
    "torch.nn.parameter.Parameter": _tensor,
}

BASES: dict[str, Callable[[Any], Any]] = {
    "numpy.generic": _numpy_scalar,
    "numpy.dtype": _dtype,
    "scipy.sparse._base._spbase": _sparse,
}
