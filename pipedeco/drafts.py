"""Draft steps: ready, and performed only when a person says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipedeco.graph import Step
from pipedeco.text import word, write_stderr

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.runners import Session

WAITS = "waits for: "  # how the recorded reason of a waiting draft begins
POLL = 0.05  # seconds between two looks of a runner that acts in the body's thread alone


class Drafts:
    """The steps of one run that wait to be released.

    Parameters
    ----------
    run: its id.
    name: of its pipeline.
    session: its thread is where all happens.
    record: called with a step whose reason has changed.
    """

    def __init__(
        self, run: str, name: str, session: Session, record: Callable[[Step], None]
    ) -> None:
        self.run = run
        self.name = name
        self.session = session
        self.record = record
        self.waiting: dict[str, tuple[Step, Callable[[Step], None]]] = {}  # by the steps' names

    def hold(self, step: Step, then: Callable[[Step], None]) -> None:
        """Call `then(step)` once the step is released, and tell how that is done."""
        command = f"pipedeco release {self.run} {word(step.name)}"
        step.reason = WAITS + command
        self.waiting[step.name] = step, then
        self.record(step)
        write_stderr(f"pipedeco: step {step.name} of {self.name} {WAITS}{command}\n")
        if self.session.in_process:
            self._look(step)

    def release(self, name: str) -> None:
        """A person says so; nothing happens where the step does not wait."""
        if name in self.waiting:
            step, then = self.waiting.pop(name)
            step.reason = None
            self.record(step)
            then(step)

    def forget(self, step: Step) -> None:
        """The step has ended without having been performed."""
        self.waiting.pop(step.name, None)

    def _look(self, step: Step) -> None:
        """Stay in the call: the debug runner acts nowhere else, and must come back by itself."""
        if step.name in self.waiting:
            self.session.later(POLL, self._look, step)
