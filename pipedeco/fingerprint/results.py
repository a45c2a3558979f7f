"""The fingerprint of a step's value, made by the worker that has it.

A worker may know less of the code of the value's classes than the process that drives the run: of
`__main__` it has what it needs.  So user code is only named here, and what the names stand for is
added by who makes a key of it (`cache.py`).
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pipedeco.fingerprint.code import CodeKeys
from pipedeco.fingerprint.files import files_met
from pipedeco.fingerprint.naming import public_name
from pipedeco.fingerprint.unproven import Unproven
from pipedeco.fingerprint.values import value_digest


def fingerprint(value: Any) -> str:
    """A value's fingerprint as JSON: [digest, [names of code within it]], or [null, [why not]].

    A third part, where the value has File objects, has their [path, digest].
    """
    named: set[str] = set()
    keys = CodeKeys(value_digest=value_digest)

    def code_digest(found: Any) -> str:
        name = _name(found)
        if name is not None:
            named.add(name)
            return _public(name)
        key = keys.key(found)
        if key.unproven:
            raise Unproven(f"is made by code of which {key.unproven[0]}")
        return key.digest

    try:
        with files_met() as files:
            digest = value_digest(value, code_digest=code_digest)
    except Unproven as error:
        return json.dumps([None, [str(error)]])
    names = sorted(named, key=_public)
    return json.dumps([digest, names, *([list(files.items())] if files else [])])


def _public(name: str) -> str:
    module, _, qualname = name.partition(":")
    return f"{public_name(module)}:{qualname}"


def _name(found: Any) -> str | None:
    """`module:qualname` where that leads to the very thing."""
    module = getattr(found, "__module__", None)
    qualname = getattr(found, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    return f"{module}:{qualname}" if find_named(f"{module}:{qualname}") is found else None


def find_named(name: str) -> Any:
    """What `module:qualname` leads to; None where it leads nowhere."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def parts_of(names: list[str]) -> dict[str, str]:
    """What the functions and classes of these names reach in this process; see `CodeKey.parts`."""
    import importlib

    keys = CodeKeys(value_digest=value_digest)
    found: dict[str, str] = {}
    for name in names:
        importlib.import_module(name.partition(":")[0])
        code = find_named(name)
        if code is not None:
            found.update(keys.key(code).parts)
    return found
