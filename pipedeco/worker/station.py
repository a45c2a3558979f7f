"""What an engine's worker does with a payload: it has it performed by supervised children.

    perform_batch(payload) -> bytes      the one function that every engine calls

A station, one for each process of an engine, keeps worker processes as local mode does: the same
nursery starts them, the same messages reach them, so isolation, logs, reports and the rules on
orphans are the same.  One batch of calls is performed by one child.

    payload        a marshalled Batch, or a probe as in worker/probing.py
    what returns   messages as in worker/messages.py, all of them:
                   ("outcome", call, worker, started...)   see _Batch.outcome
                   ("given_back", [call, ...])             not begun, to be sent again
                   ("setup_failed", name, error)           a child could not be set up for the run
                   ("lost",)                               another station had begun the batch
                   ("building", host)                      first: the environment of the batch
                   ("wrote", host, [(call, path, seconds)...])
                                                           files, see worker/lookout.py

While a batch runs longer than a moment, the same messages are also written into the store, as
worker/exchange.py says, so that the controller sees what goes on; with them

                   ("now", call, worker, seconds, progress, out, err, events)

and the controller asks there for an end: `cancel` means SIGTERM, and SIGKILL after a grace, `kill`
SIGKILL.  The engine's thread that waits for a batch does all this, so that a slow store holds up
no other batch; what concerns children is the loop's alone.
"""

from __future__ import annotations

import marshal
import os
import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from pipedeco.ambient.moments import Turns
from pipedeco.errors import BlobCorrupt, PipedecoError
from pipedeco.events import length
from pipedeco.graph import CANCELLED, FAILED, LogPosition, StepError
from pipedeco.requirements import Requirements
from pipedeco.worker.batch import Batch, needed
from pipedeco.worker.deaths import (
    FALSE_STARTS,
    GRACE,
    died_setting_up,
    ends_of_dead,
    how,
    left_alone,
    spent,
    time_left,
    timed_out,
    worker_died,
)
from pipedeco.worker.exchange import BEAT, CANCEL, KILL, Asked, Exchange, Words, open_exchange
from pipedeco.worker.lookout import Spell
from pipedeco.worker.loop import Loop, Timer
from pipedeco.worker.messages import encode
from pipedeco.worker.perform import describe_trouble
from pipedeco.worker.places import host
from pipedeco.worker.pool import Pool, Worker
from pipedeco.worker.probing import PROBE, answer
from pipedeco.worker.setups import SETTING_UP
from pipedeco.worker.travel import Setting, surroundings
from pipedeco.worker.working import WorkFolder

if TYPE_CHECKING:
    from pipedeco.worker.deaths import Exit
    from pipedeco.worker.environment import Surroundings
    from pipedeco.worker.venvs import Venv

LEASE = 300.0  # seconds without a sign of its controller after which a run is nobody's any more
PATIENCE = 600.0  # seconds for which a store that is out of reach is tried at the end of a batch
TIDY = 60.0  # seconds between two looks for runs that are over
MANY = 32  # runs after which one looks at once
LEFT = "left"  # what is asked by a controller that is gone
SPARE = 8  # idle children of other environments


class _Run(NamedTuple):
    """A run as a station knows it."""

    key: int
    folder: str
    exchange: Exchange
    setting: Setting
    work: WorkFolder  # that of the run which began it all
    around: Surroundings

    def close(self) -> None:
        """Leave nothing of the run on this machine, but what others use."""
        self.exchange.close()
        if not self.is_guest:
            self.work.leave()

    @property
    def is_guest(self) -> bool:
        """Whether its folder is another run's."""
        return self.work.run != self.setting.run


class _End(NamedTuple):
    """How a call ended that its child did not finish."""

    state: str
    error: StepError | None
    seconds: float = 0.0
    logs: tuple[int, ...] | None = None


class _Work:
    """A batch on its way through a station."""

    venv: Venv | None = None  # set before it begins

    def __init__(self, batch: Batch, run: _Run) -> None:
        self.batch = batch
        self.run = run
        self.definitions: list[tuple[str, bytes]] = []
        self.left = {call[0]: call for call in batch.calls}  # in order
        self.told: list[tuple[Any, ...]] = []  # messages
        self.logs: list[str] = []  # of the children that have had it
        self.child: _Child | None = None  # that has it
        self.held: _Child | None = None  # that has had it, while its logs are told
        self.starts = 0
        self.stopping = False
        self.asked_back = False
        self.verdict: tuple[int, StepError] | None = None  # why a call is being killed
        self.clocks: dict[int, Timer] = {}  # by call, of those with a timeout
        self.over = threading.Event()

    def tell(self, *message: Any) -> None:
        self.told.append(message)

    def outcome(self, message: tuple[Any, ...], worker: str) -> None:
        """A child has finished a call."""
        if self.left.pop(message[0], None) is not None:
            self.tell("outcome", message, worker)

    def tell_files(self) -> None:
        """Tell which files its calls have written into the working directory."""
        outcomes = [message[1] for message in self.told if message[0] == "outcome"]
        calls = [Spell(number, at, at + took) for number, _, at, took, *_ in outcomes]
        found = self.run.work.written(calls) if calls else []
        if found:
            self.tell("wrote", host(), found)

    def end(self, number: int, end: _End, worker: str = "") -> None:
        """A call has ended otherwise; whether that is worth a retry, the controller knows."""
        known = None if end.error is None else tuple(end.error)
        began = time.time() - end.seconds
        rest = None, None, (), known, None, end.logs
        self.outcome((number, end.state, began, end.seconds, *rest), worker)

    def fail(self, error: BaseException) -> None:
        """None of the calls that are left can be performed."""
        for number in list(self.left):
            self.end(number, _End(FAILED, describe_trouble(error)))

    def give_back(self, numbers: list[int]) -> None:
        given = [number for number in numbers if self.left.pop(number, None) is not None]
        if given:
            self.tell("given_back", given)


class _Child:
    """A worker process of a station."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.worker = worker
        self.name = name
        self.run: _Run | None = None
        self.work: _Work | None = None
        self.venv = worker.venv
        self.functions: set[int] = set()
        # What it was told of the program: names of its __main__, and (module, name) of others.
        self.shipped: dict[Any, bytes] = {}
        self.turns = Turns()
        self.position = LogPosition("")


class Station(Loop):
    """Keeps the children of one process of an engine; every method but `perform` is the loop's."""

    def __init__(self, start_method: str) -> None:
        super().__init__("pipedeco-station")
        self.name = f"{re.sub(r'[^A-Za-z0-9]+', '-', host())}-{os.getpid()}"
        self.children: dict[int, _Child] = {}
        self.idle: list[_Child] = []
        self.runs: dict[str, _Run] = {}  # by folder
        self.used: list[str] = []  # the folder of each batch that is here
        self.signs: dict[str, tuple[object, float]] = {}  # of controllers: which, and when it came
        # Whom nobody uses any more lets go of its environment, which may be removed then.
        self.venvs: WeakValueDictionary[tuple[Requirements, str], Venv] = WeakValueDictionary()
        self.entering: dict[str, threading.Lock] = {}  # by folder, of who opens a run
        self.knowing = threading.Lock()  # held while runs are entered, left and forgotten
        self.tidying = False  # whether somebody will look for runs that are over
        self.pool = Pool(self.selector, start_method, self.on_message, self.on_exit)
        self.start()

    # -- in the engine's threads ---------------------------------------------------------------

    def perform(self, batch: Batch) -> bytes:
        """Perform a batch; returns what is to be told of it."""
        folder = batch.folder
        with self.knowing:
            self.used.append(folder)
        try:
            return self._perform_batch(batch)
        finally:
            with self.knowing:
                self.used.remove(folder)
                if folder not in self.used and folder not in self.runs:  # it cannot be opened
                    self.entering.pop(folder, None)

    def _perform_batch(self, batch: Batch) -> bytes:
        try:
            work = _Work(batch, self._run_of(batch.folder))
            words = work.run.exchange.begin(batch.name, work.logs)
        except (PipedecoError, OSError) as error:
            return _all_failed(batch, error)
        if words is None:  # the engine hands it out again after a death
            return encode(("lost",))
        try:
            self._perform(work, words)
            work.tell_files()
            return self._last(work, words)
        finally:
            words.close()
            if work.held is not None:
                self.post(partial(self._release, work.held, fresh=batch.fresh))

    def _last(self, work: _Work, words: Words) -> bytes:
        """What is told at the end, once the values are where the controller finds them."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return words.last(work.told)
            except (PipedecoError, OSError) as error:
                lost = isinstance(error, BlobCorrupt) or time.monotonic() > deadline
                if lost or self._asked(work.run) in (KILL, LEFT):  # or waits for it
                    return words.rest(work.told, error)
            time.sleep(work.run.exchange.beat)

    def _perform(self, work: _Work, words: Words) -> None:
        batch, exchange = work.batch, work.run.exchange
        try:
            exchange.bring(needed(batch))
            work.definitions = [
                (name, packed if isinstance(packed, bytes) else exchange.value(packed))
                for name, packed in batch.definitions
            ]
            if batch.environment is not None:
                work.venv = self._venv_of(work, words, Requirements(*batch.environment))
        except (PipedecoError, OSError) as error:
            work.fail(error)
            return
        homeless = batch.environment is not None and work.venv is None
        if homeless or self._asked(work.run, fresh=True):
            work.give_back(list(work.left))
            return
        self.post(self._begin, work)
        telling = None
        if exchange.ships:  # which may take long, and a cancel must not wait for it
            name = "pipedeco-telling"
            telling = threading.Thread(
                target=self._tell, args=(work, words), name=name, daemon=True
            )
            telling.start()
        while not work.over.wait(exchange.beat):
            if not self.alive:  # it tells why nothing can be performed, if it still can
                work.fail(PipedecoError(f"the station on {host()} has ended"))
                break
            self.post(self._look, work, self._asked(work.run))
            if telling is None:
                words.write(work.told, self._now(work))
        if telling is not None:
            telling.join()

    def _tell(self, work: _Work, words: Words) -> None:
        while not work.over.wait(work.run.exchange.beat) and self.alive:
            words.write(work.told, self._now(work))

    def _run_of(self, folder: str) -> _Run:
        with self.entering.setdefault(folder, threading.Lock()):
            run = self.runs.get(folder)
            if run is None:
                exchange = open_exchange(folder)
                if not exchange.ships:  # else a look at each costs a request
                    self._tidy()  # what former runs leave may be of use
                try:
                    work = self._work_of(exchange)
                    around = surroundings(exchange.setting, work)
                except BaseException:
                    exchange.close()
                    raise
                run = _Run(next(self.numbers), folder, exchange, exchange.setting, work, around)
                with self.knowing:
                    self.runs[folder] = run
                    begins, self.tidying = not self.tidying, True
                    many = len(self.runs) % MANY == 0
                if begins:
                    self.later(TIDY, self._begin_to_tidy)
                if many:  # short ones, each of which may hold a lock until then
                    threading.Thread(target=self._tidy, name="pipedeco-tidy", daemon=True).start()
            return run

    def _work_of(self, exchange: Exchange) -> WorkFolder:
        """The working directory of a run: that of the run which began it all, if that is here."""
        setting = exchange.setting
        if setting.home:
            try:
                home = self._run_of(setting.home)
            except (PipedecoError, OSError):  # it is over, or could not be packed
                pass
            else:
                if home.setting.project == setting.project:
                    return home.work
        return WorkFolder(setting.run, setting.project, setting.code, exchange.archives)

    def _begin_to_tidy(self) -> None:
        threading.Thread(target=self._keep_tidy, name="pipedeco-tidy", daemon=True).start()

    def _keep_tidy(self) -> None:
        try:
            self._tidy()
        finally:
            with self.knowing:
                self.tidying = bool(self.runs)
            if self.tidying:
                self.later(TIDY, self._begin_to_tidy)

    def _tidy(self) -> None:
        """Forget the runs that nobody waits for any more; what they left on this machine goes."""
        for folder, run in list(self.runs.items()):
            if self._asked(run) == LEFT and self._forgotten(folder):
                run.close()
            else:
                run.work.keep()

    def _forgotten(self, folder: str) -> bool:
        """Forget a run, unless a batch of it is here; whether it was so."""
        with self.knowing:
            if folder in self.used:
                return False
            self.signs.pop(folder, None)
            self.entering.pop(folder, None)
            return self.runs.pop(folder, None) is not None

    def _venv_of(self, work: _Work, words: Words, wanted: Requirements) -> Venv | None:
        """The environment of a batch, which is built here where nobody has; None where nobody
        waits for it any more."""
        from pipedeco.worker.venvs import Stopped, environments_folder, venv_of

        def building() -> None:
            work.tell("building", host())
            words.write(work.told, None)

        variables = work.run.around.environment
        key = wanted, environments_folder(variables)
        found = self.venvs.get(key)
        if found is None or not found.there:
            try:
                found = venv_of(wanted, variables, building, lambda: self._is_over(work))
            except Stopped:
                return None
            self.venvs[key] = found
        return found

    # -- batches -------------------------------------------------------------------------------

    def _begin(self, work: _Work) -> None:
        """Give a batch to a child."""
        work.starts += 1
        child = self._choose(work)
        child.work, work.child = work, child
        self._enter(child, work.run)
        work.logs.append(child.position.name)
        for message in work.batch.functions:
            if message[1] not in child.functions:
                child.functions.add(message[1])
                self.pool.send(child.worker, message)
        self._tell_program(child, work)
        for number, timeout in work.batch.timeouts.items():
            self._watch(child, work, number, timeout, timeout)
        for message in child.turns.messages(list(work.left.values()), work.batch.moments):
            self.pool.send(child.worker, message)

    def _tell_program(self, child: _Child, work: _Work) -> None:
        """Send a child what a batch needs of the program."""
        batch, shipped = work.batch, child.shipped
        imported = work.run.around.main_file is not None and child.venv is None
        spare = frozenset(batch.spare if imported else ())
        new = [
            d
            for d in work.definitions
            if d[0] not in spare and (d[0] in batch.renewed or shipped.get(d[0]) != d[1])
        ]
        if new:
            self.pool.send(child.worker, ("define", new))
            shipped.update(new)
        changed = [c for c in batch.changes if c[1] in batch.renewed or shipped.get(c[:2]) != c[2]]
        if changed:
            self.pool.send(child.worker, ("changes", changed))
            shipped.update((change[:2], change[2]) for change in changed)

    def _choose(self, work: _Work) -> _Child:
        """An idle child, rather one that is in the run already; else a new one."""
        idle = [child for child in self.idle if child.venv == work.venv]
        if idle and not work.batch.fresh and work.starts == 1:  # else that one has made room
            chosen = next((c for c in reversed(idle) if c.run is work.run), idle[-1])
            self.idle.remove(chosen)
            return chosen
        if work.venv is not None:
            self._dismiss()
        worker = self.pool.start(work.venv)
        child = _Child(worker, f"{self.name}-{worker.number}")
        self.children[worker.number] = child
        return child

    def _dismiss(self) -> None:
        """Keep few idle children of other environments; the oldest go."""
        others = [child for child in self.idle if child.venv is not None]
        for child in others[: max(0, len(others) - SPARE)]:
            self.idle.remove(child)
            self.pool.retire(child.worker)

    def _enter(self, child: _Child, run: _Run) -> None:
        if child.run is run:
            return
        child.run = run
        child.turns = Turns()
        child.functions.clear()
        # A step may have changed globals since they were compared.
        child.shipped = {name: data for name, data in child.shipped.items() if type(name) is str}
        setting, exchange = run.setting, run.exchange
        name = f"{setting.log_prefix}{child.name}{exchange.token}"
        base = os.path.join(exchange.logs, name)
        child.position = position = LogPosition(name)
        position.out, position.err = length(f"{base}.out"), length(f"{base}.err")
        position.events = length(f"{base}.events")
        names = setting.run, setting.pipeline
        around = run.around
        if child.venv is not None:
            around = child.venv.around(around._replace(main_file=None), setting.project)
        self.pool.send(child.worker, ("run", run.key, tuple(around), exchange.blobs, base, names))

    def _finish(self, child: _Child) -> None:
        """The child's batch is over."""
        work, child.work = child.work, None
        assert work is not None
        work.child = None
        if work.run.exchange.ships:
            work.held = child
        else:
            self._release(child, fresh=work.batch.fresh)
        self._end(work)

    def _release(self, child: _Child, *, fresh: bool = False) -> None:
        """What the child has written is told: it may have another batch."""
        if fresh:
            self.pool.retire(child.worker)
        elif child.worker.alive:
            self.idle.append(child)

    # -- while a batch goes on -----------------------------------------------------------------

    def _look(self, work: _Work, asked: str) -> None:
        """See whether a batch is to end, or a part of it."""
        child = work.child
        if child is None:
            return
        if asked == LEFT:
            work.verdict = int(child.worker.page[0]), left_alone(LEASE)
            self.pool.kill(child.worker)
        elif asked == KILL:
            work.stopping = True
            self.pool.kill(child.worker)
        elif asked == CANCEL and not work.stopping:
            work.stopping = True
            self.pool.cancel(child.worker, work.run.key)
            self.later(GRACE, self._kill, child, work)
        page = child.worker.page
        stuck = page[0] in work.left and spent(page) > BEAT / 2  # not: its child is just starting
        if stuck and len(work.left) > 1 and not work.asked_back:
            work.asked_back = True  # others may be free for what waits behind a long step
            self.pool.send(child.worker, ("give_back",))

    def _asked(self, run: _Run, *, fresh: bool = False) -> str:
        """CANCEL, KILL, or LEFT where nobody waits for a run any more.

        It is over, or its controller, which may be on another host and killed there, has given no
        sign for long; clocks of two machines are not compared.
        """
        asked: Asked = run.exchange.asked(fresh=fresh)
        if asked.sign is None:
            return LEFT
        last = self.signs.get(run.folder)
        if last is None or last[0] != asked.sign:
            self.signs[run.folder] = last = asked.sign, time.monotonic()
        return LEFT if time.monotonic() - last[1] > LEASE else asked.word

    def _now(self, work: _Work) -> tuple[Any, ...] | None:
        """What a batch is at; read beside the loop, which may be a moment ahead."""
        child = work.child
        if child is None:
            return None
        number, _, _, progress = child.worker.page[:4]
        if number in (0, SETTING_UP):
            return None
        position = child.position
        places = position.out, position.err, position.events
        return "now", number, position.name, spent(child.worker.page), progress, *places

    def _is_over(self, work: _Work) -> bool:
        """Whether nobody waits for a batch any more."""
        return bool(self._asked(work.run))

    def _kill(self, child: _Child, work: _Work) -> None:
        if child.work is work:
            self.pool.kill(child.worker)

    def _watch(
        self, child: _Child, work: _Work, number: int, timeout: float, seconds: float
    ) -> None:
        self.cancel(work.clocks.get(number))  # of a child that is gone
        work.clocks[number] = self.later(seconds, self._check_timeout, child, work, number, timeout)

    def _check_timeout(self, child: _Child, work: _Work, number: int, timeout: float) -> None:
        """Kill a child whose call is over its time."""
        if child.work is not work or number not in work.left:
            return
        left = time_left(child.worker.page, number, timeout)
        if left > 0:
            self._watch(child, work, number, timeout, left)
        else:
            work.verdict = number, timed_out(timeout)
            self.pool.kill(child.worker)

    # -- what children say ---------------------------------------------------------------------

    def on_message(self, worker: Worker, message: tuple[Any, ...]) -> None:
        child = self.children[worker.number]
        work = child.work
        if work is None:
            return
        if message[0] == "outcomes":
            for outcome in message[1]:
                self._outcome(child, work, outcome)
        elif message[0] == "unimportable":
            self._give_up_main(work.run)
        elif message[0] == "setup_failed":
            work.tell(*message)
        else:
            work.give_back(message[1])
        if not work.left:
            self._finish(child)

    def _give_up_main(self, run: _Run) -> None:
        """The main file cannot be imported here: children enter the run anew, without it."""
        around = run.around._replace(main_file=None)
        with self.knowing:
            if self.runs.get(run.folder) is run:
                self.runs[run.folder] = run._replace(around=around)

    def _outcome(self, child: _Child, work: _Work, message: tuple[Any, ...]) -> None:
        logs = message[-1]
        if logs is not None:
            position = child.position
            position.out, position.err, position.events = logs[1], logs[3], logs[5]
        work.starts = 0  # it is none of those that die as they start
        work.outcome(message, child.position.name)
        work.starts = 0  # of children that began nothing, one after another

    def on_exit(self, worker: Worker, end: Exit) -> None:
        """A child is gone: its current call is charged, the others are given back."""
        child = self.children.pop(worker.number)
        if child in self.idle:
            self.idle.remove(child)
        work, child.work = child.work, None
        if work is None:
            return
        work.child = None
        current = int(worker.page[0])
        if current in work.left:
            self._charge(child, work, current, end)
        elif current == SETTING_UP and not work.stopping:
            work.tell("setup_failed", "", tuple(died_setting_up(end)))
        elif work.starts <= FALSE_STARTS and not work.stopping:
            self._begin(work)  # it had begun nothing, as one whose modules have changed
            return
        elif not work.stopping:
            what = f"worker processes on {host()} die as they start ({how(end)})"
            work.fail(PipedecoError(what))
        work.give_back(list(work.left))
        self._end(work)

    def _end(self, work: _Work) -> None:
        for clock in work.clocks.values():  # else they would keep it until their time
            self.cancel(clock)
        work.over.set()

    def _charge(self, child: _Child, work: _Work, number: int, death: Exit) -> None:
        base = os.path.join(work.run.exchange.logs, child.position.name)
        end = _End(FAILED, worker_died(death), spent(child.worker.page))
        if work.stopping:
            end = end._replace(state=CANCELLED, error=None)
        elif work.verdict is not None and work.verdict[0] == number:
            end = end._replace(error=work.verdict[1])
        child.position.number = number
        end = end._replace(logs=ends_of_dead(base, child.position))
        work.end(number, end, child.position.name)

    # -- the end -------------------------------------------------------------------------------

    def crashed(self, error: BaseException) -> None:
        for child in self.children.values():
            if child.work is not None:
                child.work.fail(PipedecoError(f"the station on {host()} has failed: {error!r}"))
                child.work.over.set()

    def ended(self) -> None:
        self.pool.close()
        for run in self.runs.values():
            run.close()

    def abandon(self) -> None:
        self.pool.abandon()
        super().abandon()


def _all_failed(batch: Batch, error: BaseException) -> bytes:
    """What is told where none of the calls can be performed, or nothing of them can be known."""
    told = describe_trouble(error)
    rest = None, None, (), tuple(told), None, None
    calls = (call[0] for call in batch.calls)
    return b"".join(
        encode(("outcome", (number, FAILED, time.time(), 0.0, *rest), "")) for number in calls
    )


_stations: dict[tuple[int, str], Station] = {}  # by process, as engines fork, and start method
_making = threading.Lock()
os.register_at_fork(after_in_child=_making._at_fork_reinit)  # type: ignore[attr-defined]


def perform_batch(payload: bytes) -> bytes:
    """Perform the calls of a payload; what is to be told of them.  A probe is answered at once."""
    message = marshal.loads(payload)
    if message[0] == PROBE:
        return answer(*message[1:])
    batch = Batch(*message)
    key = os.getpid(), batch.start_method
    with _making:
        if key not in _stations or not _stations[key].alive:
            _stations[key] = Station(batch.start_method)
        station = _stations[key]
    return station.perform(batch)


def close_stations() -> None:
    """Leave no child of this process."""
    for station in _stations.values():
        station.close()
    _stations.clear()
