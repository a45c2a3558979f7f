"""The modes by name: what each means for a step, and its runner."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipedeco.runners import Runner


class Traits(NamedTuple):
    """What a mode means for a step, for who looks at it before there is a runner."""

    in_process: bool  # it is called here: nothing of it is pickled
    elsewhere: bool  # the project's code travels to who performs it


def traits_of(mode: str) -> Traits:
    return Traits(in_process=mode == "debug", elsewhere=mode == "remote")


def make_runner(mode: str, start_method: str) -> Runner:
    """The runner of a mode."""
    if mode == "debug":
        from pipedeco.runners.debug import DebugRunner

        return DebugRunner()
    if mode == "remote":
        from pipedeco.runners.remote import RemoteRunner

        return RemoteRunner()
    from pipedeco.runners.local import LocalRunner

    return LocalRunner(start_method)
