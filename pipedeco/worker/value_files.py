"""The files that the value of a cached component's step names, as they are when the step ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipedeco.fingerprint.files import digest_now, files_met

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.graph import Outcome


def noting_files(attempt: Callable[[Callable[[Any], Any]], Outcome], pack: Any) -> Outcome:
    """The outcome of an attempt, with the files that its value names as they are when it ends.

    Parameters
    ----------
    attempt: performs a step with the function that is to pack its value.
    pack: that function.
    """
    __tracebackhide__ = True
    held: tuple[tuple[str, str | None], ...] = ()

    def packed(value: Any) -> Any:
        nonlocal held
        with files_met() as met:
            found = pack(value)
        held = tuple((path, digest_now(path)) for path in met)
        return found

    outcome = attempt(packed)
    return outcome._replace(files=held) if held else outcome
