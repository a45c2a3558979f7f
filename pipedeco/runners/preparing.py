"""An environment on its way, and the calls that wait for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pipedeco.errors import PipedecoError
from pipedeco.worker.venvs import Stopped, Venv, venv_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipedeco.graph import StepCall
    from pipedeco.requirements import Requirements


class Preparation:
    """Has an environment built in a thread of its own.

    Parameters
    ----------
    variables: the environment variables of the run.
    building: called in that thread where the environment is not there yet.
    done: called in that thread with the environment, or with None and the error; not after `stop`.
    """

    def __init__(
        self,
        wanted: Requirements,
        variables: Mapping[str, str],
        building: Callable[[], None],
        done: Callable[[Venv | None, BaseException | None], None],
    ) -> None:
        self.wanted = wanted
        self.calls: list[StepCall] = []
        self._stopping = threading.Event()
        self._done = done
        self._thread = threading.Thread(
            target=self._build, args=(dict(variables), building), name="pipedeco-environment"
        )
        self._thread.start()

    def stop(self) -> list[StepCall]:
        """Have nothing more built; the calls that waited."""
        self._stopping.set()
        return self.calls

    def _build(self, variables: dict[str, str], building: Callable[[], None]) -> None:
        try:
            found = venv_of(self.wanted, variables, building, self._stopping.is_set)
        except Stopped:
            return
        except PipedecoError as error:
            self._done(None, error)
        except Exception as error:  # noqa: BLE001 - a defect here must not leave the run waiting for ever
            text = f"the environment for {self.wanted.text} cannot be built: {error!r}"
            self._done(None, PipedecoError(text))
        else:
            self._done(found, None)
