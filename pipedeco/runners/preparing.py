"""The environments of a run's steps on this machine, and the calls that wait for them."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from pipedeco.errors import PipedecoError
from pipedeco.runners.calls import building, failure_of, removed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from pipedeco.graph import Step, StepCall
    from pipedeco.requirements import Requirements
    from pipedeco.runners.calls import CallSession
    from pipedeco.worker.environment import Surroundings
    from pipedeco.worker.venvs import Venv


class Environments:
    """What steps of one run have asked for; every method is the loop's.

    Parameters
    ----------
    session: gets the calls when they are ready, or ends them.
    surroundings: of the run.
    known: environments that are in use, by folder and requirements; shared by the runs.
    """

    def __init__(
        self,
        session: CallSession,
        surroundings: Surroundings,
        known: MutableMapping[tuple[str, Requirements], Venv],
    ) -> None:
        self._session = session
        self.surroundings = surroundings
        self._known = known
        self._own: dict[Requirements, Venv] = {}  # of the run
        self._preparations: dict[Requirements, Preparation] = {}

    def hold(self, call: StepCall) -> bool:
        """Whether a call waits, until its environment is built in a thread of its own."""
        wanted = call.step.called.environment
        assert wanted is not None
        known = self._known.get((self._shelf, wanted))
        if known is not None and known.there:
            self._own[wanted] = known
            return False
        if wanted not in self._preparations:
            session, text = self._session, building(call.step.called)
            self._preparations[wanted] = Preparation(
                wanted,
                self.surroundings.environment,
                lambda: session.announce(text),
                lambda venv, error: session.post(self._prepared, wanted, venv, error),
            )
        self._preparations[wanted].calls.append(call)
        return True

    def of(self, step: Step) -> Venv | None:
        """The environment in which a ready step is performed; None is this process's own."""
        wanted = step.called.environment
        return None if wanted is None else self._own[wanted]

    def around(self, venv: Venv | None) -> Surroundings:
        """The surroundings of the run for a worker of an environment."""
        if venv is None:
            return self.surroundings
        from pipedeco.runners.bundle import project_here

        around = self.surroundings._replace(main_file=None)
        return venv.around(around, project_here())

    def withdraw(self, call: StepCall) -> bool:
        """Take back a call that waits; whether it was here."""
        return any(removed(each.calls, call) for each in self._preparations.values())

    def leave(self) -> list[StepCall]:
        """Have nobody build for this run any more; the calls that waited."""
        waiting = [call for each in self._preparations.values() for call in each.stop()]
        self._preparations.clear()
        return waiting

    @cached_property
    def _shelf(self) -> str:
        """The folder of environments."""
        from pipedeco.worker.venvs import environments_folder

        return environments_folder(self.surroundings.environment)

    def _prepared(
        self, wanted: Requirements, venv: Venv | None, error: BaseException | None
    ) -> None:
        preparation = self._preparations.pop(wanted, None)
        if venv is not None:
            self._own[wanted] = self._known[self._shelf, wanted] = venv
        for call in preparation.calls if preparation is not None else ():
            if error is None:
                self._session.ready.put(call)
            else:
                call.done(call, failure_of(call, error))


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
        from pipedeco.worker.venvs import Stopped, venv_of

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
