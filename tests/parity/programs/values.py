"""Values of many types through steps and back, with identity, equality, order and copies."""

import collections
import copy
import datetime
import decimal
import fractions
import ipaddress
import re
import uuid
import zoneinfo
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

from pipedeco import component, pipeline

ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
VALUES = [
    2**200,
    float("nan"),
    -0.0,
    1 + 2j,
    b"\x00\xff",
    bytearray(b"abc"),
    "\ud800 lone",
    ...,
    NotImplemented,
    range(1, 10, 3),
    slice(1, None, 2),
    frozenset({1, 2}),
    collections.OrderedDict(b=1, a=2),
    collections.defaultdict(list, x=[1]),
    collections.deque([1, 2], maxlen=2),
    collections.Counter("aab"),
    datetime.datetime(2024, 3, 31, 2, 30, fold=1, tzinfo=ZONE),
    datetime.timedelta(days=-1, microseconds=5),
    decimal.Decimal("1.10"),
    fractions.Fraction(2, 6),
    uuid.UUID(int=5),
    ipaddress.ip_network("10.0.0.0/8"),
    re.compile("a+", re.IGNORECASE),
    Path("some") / "path",
    SimpleNamespace(x=1),
    ValueError("an error as a value", 3),
    int,
    len,
]


@component
def echo(value):
    return value


@component
def describe(value):
    return type(value).__name__, ascii(value)


@component
def shared(pair):
    return pair, pair[0] is pair[1]


@component
def proxy(mapping):
    return dict(mapping), copy.deepcopy(mapping)


@pipeline
def main():
    for value in VALUES:
        name, text = describe(echo(value))
        same = text == ascii(value) and name == type(value).__name__
        print(name, text, same)
    inner = [1]
    inner.append(inner)
    (one, _), is_same = shared((inner, inner))
    print(is_same == True, one[1][0] + 0)  # noqa: E712
    return proxy({"z": 1, "a": MappingProxyType({"k": 2})["k"]})


if __name__ == "__main__":
    print(*main())
