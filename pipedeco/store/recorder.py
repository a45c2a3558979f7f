"""Writes what happens into the database, in groups, in a thread of its own.

The step path only appends to a queue.  A group is committed when it is 50 ms old or has 1,000
entries, with synchronous=FULL.  A step that changes several times within one group is one row.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pipedeco.blobs import blobs_of
from pipedeco.errors import RunBusy, StoreError
from pipedeco.graph import COMPLETED, ENDED, RUNNING, Step
from pipedeco.serialization import UNRECORDED
from pipedeco.store import reports, rows
from pipedeco.store.database import connect, database_path, queries
from pipedeco.store.owner import OwnerLock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pipedeco.capture import Capture
    from pipedeco.fingerprint.code import CodeKey
    from pipedeco.graph import StepKey

GROUP_AGE = 0.05  # seconds
GROUP_SIZE = 1000
HELD = 10.0  # seconds that a fork waits for a commit
LOOK = 0.5  # seconds between two records of what is still under way
PENDING_ROWS = 500  # of steps that only wait, at each look
ROWS = (500, 50, 5, 1)  # rows in one statement, for which SQLite releases the interpreter once


class RunLog:
    """What the recorder knows of a run that this process performs.

    Parameters
    ----------
    facts: the columns of begin_run, and `fn`, the pipeline's function.
    steps: the run's list of steps, which grows.
    active: the steps that a runner has, and more; changes while it is read.
    failed: called with a StoreError or RunBusy when nothing more can be recorded.
    cancel: called with the reason when another process asks to cancel the run.
    release: called with the name of a draft step when another process releases it.
    code_of: gives the CodeKey of a function, and the texts of what it reaches.
    progress: gives how far the run is, from 0 to 1.
    logs: the folder of its logs.
    body: where what its body reports stands.
    tags: of the run.
    seed: of its steps.
    capture: what it takes to run again, which may be known only after the run's end.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        steps: list[Step],
        active: dict[Step, Any],
        failed: Callable[[BaseException], None],
        *,
        cancel: Callable[[str], None],
        release: Callable[[str], Any],
        code_of: Callable[[Any], tuple[CodeKey, dict[str, str]]],
        progress: Callable[[], float],
        logs: str,
        body: str,
        tags: tuple[str, ...] = (),
        seed: int | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.facts = facts
        self.steps = steps
        self.active = active
        self.failed = failed
        self.cancel = cancel
        self.release = release
        self.drafts: Collection[str] = ()  # the steps that wait to be released
        self.code_of = code_of
        self.progress = progress
        self.logs = logs
        self.body = body
        self.tags = tags
        self.seed = seed
        self.capture = capture
        self.fn = facts.pop("fn")  # the pipeline's
        self.codes: dict[int, tuple[CodeKey, dict[str, str]]] = {}  # by id of a function
        self.seq = 0
        self.number = 0
        self.epoch = 1
        self.expected = 0  # steps of the version's last completed run
        self.expected_seconds = 0.0  # that it took
        self.begun = threading.Event()
        self.components: dict[int, int] = {}  # id of a Called -> its number
        self.error: BaseException | None = None
        self.told_progress = 0.0
        self._looked = 0  # steps before this position are recorded, whatever their state
        self._running: dict[Step, int] = {}  # recorded as running, with their attempt

    def under_way(self) -> list[Step]:
        """Steps that have not ended and are not recorded as they are: a part of the pending
        ones at a time, and all that run."""
        if not self.begun.is_set():
            return []
        new = self.steps[self._looked : self._looked + PENDING_ROWS]
        self._looked += len(new)
        running = {step: step.attempt for step in list(self.active) if step.state == RUNNING}
        begun = [step for step in running if self._running.get(step) != step.attempt]
        self._running = running
        return [step for step in new if step.state not in ENDED] + begun


class Recorder:
    """The one writer of this process to one store.

    Raises StoreError from the constructor where the store cannot be used.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.connection = connect(folder)
        there = os.stat(database_path(folder))
        self._database = there.st_dev, there.st_ino
        self.owner = OwnerLock(folder)
        self.blobs = blobs_of(folder)
        self.runs: dict[Any, RunLog] = {}  # by what step.run is
        self.users: WeakSet[Any] = WeakSet()  # runs, from before they begin until forgotten
        self._queue: deque[Any] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._waiting = False
        self._urgent = False
        self._closing = False
        self._in_use = threading.Lock()  # the connection
        self._looked = time.monotonic()
        self._captured: list[RunLog] = []  # whose capture is still to be recorded
        self._keys: list[StepKey] = []  # of the steps in the open group
        self._reports = reports.GroupReports(self.connection)
        self._statements = {(s, n): _multi_row(s, n) for s in rows.COLUMNS for n in ROWS}
        self._thread = threading.Thread(target=self._loop, name="pipedeco-recorder", daemon=True)
        self._thread.start()

    # -- from any thread -----------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def serves(self) -> bool:
        """Whether it lives, and its database is the one that has the name."""
        try:
            now = os.stat(database_path(self.folder))
        except OSError:
            return False
        return self.alive and (now.st_dev, now.st_ino) == self._database

    @property
    def idle(self) -> bool:
        """Whether no run uses it, and nothing is left to record."""
        return not (self.users or self.runs or self._queue or self._captured)

    def begin(self, run: Any, log: RunLog) -> None:
        log.facts["owner"] = self.owner.name
        self.runs[run] = log
        self._queue.append(("begin", log))
        self._queue.append(("code", log))
        self._urgent = True
        self._ring()

    def resume(self, run: Any, log: RunLog, row: dict[str, Any], epoch: int) -> None:
        """Go on with a run that is recorded, and ours since `epoch`."""
        log.seq, log.number, log.epoch = row["seq"], row["number"], epoch
        self.runs[run] = log
        if log.capture is not None:
            self._captured.append(log)
        log.begun.set()
        self._queue.append(("code", log))
        self._ring()

    def changed(self, step: Step) -> None:
        """Note that a step's state changed."""
        self._queue.append(step)
        if self._waiting:
            self._ring()

    def attempt(self, step: Step, number: int, outcome: Any) -> None:
        """Note an attempt that is followed by another."""
        self._put(("attempt", step, number, outcome))

    def fingerprinted(self, step: Step) -> None:
        """Note that the fingerprint of a step's value has become known."""
        self._put(("fingerprint", step))

    def moved(self, child: str, step: str) -> None:
        """Note that a child run is the step of another name."""
        self._put(("moved", child, step))

    def end(self, run: Any, facts: dict[str, Any]) -> None:
        self._put(("end", run, facts))

    def reported(self, run: Any) -> None:
        """Note that the run was reported on after its end was noted."""
        self._put(("reported", run))

    def flush(self, run: Any = None) -> None:
        """Return once all that was noted before is committed.

        Raises the StoreError or RunBusy that kept `run` from being recorded.
        """
        log = self.runs.get(run)
        done = threading.Event()
        self._queue.append(("flush", done, log))
        self._urgent = True
        self._ring()
        while not done.wait(1.0):
            if not self._thread.is_alive():
                raise StoreError(f"the recorder of {self.folder} has ended")
        if log is not None and log.error is not None:
            raise log.error

    def forget(self, run: Any) -> None:
        self.runs.pop(run, None)
        self.users.discard(run)

    def close(self) -> None:
        """Commit what is noted and release the lock."""
        self._closing = True
        self._put(None)
        self._thread.join(10.0)
        self.owner.release()

    def hold(self) -> bool:
        """Let nothing be written until `go_on`; False where that does not come about in time.

        A fork must not come amid a commit: SQLite in the child takes what the parent has locked for
        locked by its own process, and nobody there would ever unlock it.
        """
        return self._in_use.acquire(timeout=HELD)

    def go_on(self) -> None:
        self._in_use.release()

    def _put(self, entry: Any) -> None:
        self._queue.append(entry)
        if self._waiting:
            self._ring()

    def _ring(self) -> None:
        self._waiting = False
        try:
            self._bell.release()
        except RuntimeError:  # somebody else rang at the same moment
            pass

    # -- the thread ----------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            self._work()
        except BaseException as error:
            failure = StoreError(f"the recorder of {self.folder} has failed: {error!r}")
            for log in list(self.runs.values()):
                self._give_up(log, failure)
                log.begun.set()
            raise
        finally:
            self.connection.close()

    def _work(self) -> None:
        while not (self._closing and not self._queue and not self._captured):
            self._wait()
            group = self._take()
            ready = any(log.capture is None or log.capture.done for log in self._captured)
            if group or ready or (self._captured and self._closing):
                self._write(group)

    def _wait(self) -> None:
        """Sleep until a group is old or large enough, or somebody waits for it."""
        if not self._queue:
            self._sleep(GROUP_AGE if self._captured else LOOK if self.runs else None)
        deadline = time.monotonic() + GROUP_AGE
        while len(self._queue) < GROUP_SIZE and not self._urgent and not self._closing:
            left = deadline - time.monotonic()
            if left <= 0 or not self._queue:
                break
            self._bell.acquire(timeout=min(left, 0.01))
        self._urgent = False

    def _sleep(self, timeout: float | None) -> None:
        self._waiting = True
        if not self._queue and not self._closing:
            self._bell.acquire(timeout=-1 if timeout is None else timeout)
        self._waiting = False

    def _take(self) -> list[Any]:
        queue = self._queue
        group = []
        while queue:
            group.append(queue.popleft())
            if group[-1].__class__ is tuple and group[-1][0] == "begin":
                break  # a run is known at once; to look at code takes longer
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            group += chain.from_iterable(log.under_way() for log in list(self.runs.values()))
            group += [("progress", log) for log in list(self.runs.values()) if log.begun.is_set()]
            with self._in_use:
                self._hear()
        return group

    def _write_captures(self) -> None:
        """Record what has become known; at the end, what is known by then."""
        for log in list(self._captured):
            assert log.capture is not None
            if log.capture.done or self._closing:
                self._captured.remove(log)
                facts = {
                    "capture": log.capture.to_json(0.0 if log.capture.done else 1.0),
                    "seq": log.seq,
                    "epoch": log.epoch,
                }
                self.connection.execute(queries()["put_capture"], facts)

    def _hear(self) -> None:
        """Cancel the runs, and release the drafts, for which somebody else asks it."""
        owner = {"owner": self.owner.name}
        live = list(self.runs.values())
        try:
            asked = dict(self.connection.execute(queries()["asked_to_cancel"], owner).fetchall())
            if any(log.drafts for log in live):
                self._hear_releases(live, owner)
        except sqlite3.Error:  # the next group finds out, and tells the runs
            return
        for log in live if asked else ():
            reason = asked.get(log.facts["id"])
            if reason is not None:
                log.cancel(reason)

    def _hear_releases(self, live: list[RunLog], owner: dict[str, str]) -> None:
        found = self.connection.execute(queries()["asked_to_release"], owner).fetchall()
        for run, step in found:
            self.connection.execute(queries()["forget_release"], {"run": run, "step": step})
            for log in live:
                if log.seq == run:
                    log.release(step)

    def _write(self, group: list[Any]) -> None:
        """Commit one group; what it cannot write is told to the runs, never dropped silently."""
        flushed = [entry for entry in group if entry.__class__ is tuple and entry[0] == "flush"]
        for entry in flushed:
            group += self._live_steps(entry[2])
        self._read_code(group)
        self._read_reports(group)
        try:
            with self._in_use:
                self._commit(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, the runs must be told
            failure = StoreError(
                f"the store {self.folder} cannot be written: {error}; free some space or move "
                "it with PIPEDECO_STORE, then run again"
            )
            for log in list(self.runs.values()):
                self._give_up(log, failure)
        for entry in group:
            if entry.__class__ is tuple and entry[0] == "begin":
                entry[1].begun.set()
        while self._keys:
            _release(self._keys.pop())
        self._reports.clear()
        for entry in flushed:
            entry[1].set()

    def _commit(self, group: list[Any]) -> None:
        try:
            self.connection.execute("begin immediate")
            self._write_entries(group)
            self._write_captures()
            self.connection.execute("commit")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("rollback")
            raise

    def _live_steps(self, log: RunLog | None) -> list[Step]:
        if log is None:
            return []
        return [step for step in log.steps if step.state not in ENDED]

    def _give_up(self, log: RunLog, error: BaseException) -> None:
        if log.error is None:
            log.error = error
            log.failed(error)

    def _write_entries(self, group: list[Any]) -> None:
        steps: dict[Step, None] = {}
        for entry in group:
            if entry.__class__ is Step:
                steps[entry] = None
            elif entry is not None and entry[0] != "flush":
                self._write_steps(steps)
                steps = {}
                getattr(self, f"_write_{entry[0]}")(*entry[1:])
        self._write_steps(steps)

    def _write_begin(self, log: RunLog) -> None:
        facts = log.facts
        # As long as the code is not known: what the last run's version says.
        self._expect(log, facts["version"])
        row = self.connection.execute(queries()["begin_run"], facts).fetchone()
        log.seq, log.number = row
        self._reports.put(log.seq, reports.tags_of_run(log.tags))
        self._reports.put(log.seq, reports.options_of_run(log.seed))
        if log.capture is not None:
            self._captured.append(log)

    def _write_code(self, log: RunLog) -> None:
        """The pipeline's code, the version that follows from it, and what a run of it expects."""
        if self._owned_log(log) is None:
            return
        facts = log.facts
        code = self._code(log, log.fn, ("code", "parts", "sources"))
        version = facts["version"]
        if version is None:
            version = self._version(facts["pipeline"], code["code"])
        self._expect(log, version)
        self.connection.execute(
            queries()["put_code"], {**code, "version": version, "seq": log.seq, "epoch": log.epoch}
        )

    def _expect(self, log: RunLog, version: str | None) -> None:
        """Note what the version's last completed run took; of the last version where it is None."""
        facts = {"pipeline": log.facts["pipeline"], "version": version}
        if version is None:
            last = self.connection.execute(queries()["last_version"], facts).fetchone()
            facts["version"] = last[0] if last is not None else None
        found = self.connection.execute(queries()["expected_steps"], facts)
        log.expected, log.expected_seconds = found.fetchone() or (0, 0.0)

    def _version(self, pipeline: str, code: str) -> str:
        """The version of a pipeline that names none: another one for other code."""
        facts = {"pipeline": pipeline, "code": code}
        same = self.connection.execute(queries()["known_code"], facts).fetchone()
        if same is not None:
            return str(same[0])
        found = self.connection.execute(queries()["known_versions"], {"pipeline": pipeline})
        return next_version([row[0] for row in found])

    def _read_code(self, group: list[Any]) -> None:
        """Look at code that is met for the first time; not while the database is locked."""
        for entry in group:
            if entry.__class__ is Step:
                log = self.runs.get(entry.run)
                fn = entry.called.component.fn
            elif entry is not None and entry[0] == "code":
                log, fn = entry[1], entry[1].fn
            else:
                continue
            if log is not None and id(fn) not in log.codes:
                try:
                    log.codes[id(fn)] = log.code_of(fn)
                except Exception as error:  # noqa: BLE001 - users' classes are looked at
                    from pipedeco.fingerprint.code import unread_code

                    why = f"its code could not be read: {type(error).__name__}"
                    log.codes[id(fn)] = unread_code(why), {}

    def _read_reports(self, group: list[Any]) -> None:
        """Look at what steps have reported that ended; not while the database is locked."""
        for entry in group:
            if entry.__class__ is Step and (entry.outcome is None or entry.outcome.logs is None):
                continue  # most steps say nothing
            try:
                self._read_report(entry)
            except (OSError, ValueError, TypeError) as error:  # too many open files; a foreign file
                import logging

                logging.getLogger("pipedeco").warning("a report is not indexed: %r", error)

    def _read_report(self, entry: Any) -> None:
        if entry.__class__ is Step:
            log = self.runs.get(entry.run)
            if log is not None and entry.state in ENDED and entry.outcome is not None:
                self._reports.read_step(log.logs, entry)
        elif entry is not None and entry[0] == "attempt":
            log = self.runs.get(entry[1].run)
            if log is not None:
                self._reports.read_attempt(log.logs, *entry[1:])
        elif entry is not None and entry[0] in ("end", "reported"):
            log = self.runs.get(entry[1])
            if log is not None:
                self._reports.read_body(log.body)

    def _write_progress(self, log: RunLog) -> None:
        progress = log.progress()
        if progress != log.told_progress and self._owned_log(log) is not None:
            log.told_progress = progress
            facts = {"progress": progress, "seq": log.seq, "epoch": log.epoch}
            self.connection.execute(queries()["put_progress"], facts)

    def _write_fingerprint(self, step: Step) -> None:
        log = self._owned(step.run)
        if log is not None and step.key is not None:
            facts = {
                "step": rows.step_id(log.seq, step.position),
                "fingerprint": step.key.fingerprint,
                "origin": step.key.origin,
                "key": step.key.key,
            }
            self.connection.execute(queries()["put_fingerprint"], facts)

    def _write_attempt(self, step: Step, number: int, outcome: Any) -> None:
        log = self._owned(step.run)
        if log is not None:
            row = rows.attempt_row(log.seq, step, number, outcome)
            self.connection.execute(queries()["put_attempt"], row)
            self._reports.write((step, number), log.seq)

    def _write_moved(self, child: str, step: str) -> None:
        self.connection.execute(queries()["move_child"], {"id": child, "step": step})

    def _write_end(self, run: Any, facts: dict[str, Any]) -> None:
        log = self._owned(run)
        if log is not None:
            columns = {**facts, "seq": log.seq, "epoch": log.epoch}
            seconds = columns.pop("seconds", None)
            if seconds is not None:
                told = {"run": log.seq, "seconds": seconds, "began": log.facts["started"]}
                self.connection.execute(queries()["put_seconds"], told)
            self._reports.write(log.body, log.seq)
            self.connection.execute(queries()["end_run"], columns)
            if facts["status"] == "completed" and log.epoch > 1:
                self.connection.execute(queries()["forget_earlier"], {"run": log.seq})

    def _write_reported(self, run: Any) -> None:
        log = self._owned(run)
        if log is not None:
            self._reports.write(log.body, log.seq)

    def _write_steps(self, steps: dict[Step, None]) -> None:
        found: list[tuple[Any, ...]] = []
        keys: list[tuple[Any, ...]] = []
        cached: list[tuple[Any, ...]] = []
        logs: dict[Any, RunLog | None] = {}
        for step in steps:
            run = step.run
            if run not in logs:
                logs[run] = self._owned(run)
            log = logs[run]
            if log is not None:
                found.append(rows.step_row(log.seq, self._component(log, step.called), step))
                if self._reports.found:
                    self._reports.write(step, log.seq)
                if step.key is not None and step.state in ENDED:
                    row = rows.key_row(log.seq, step, step.key)
                    keys.append(row)
                    if row[1] and self._may_serve(step, step.key):
                        cached.append((row[1], row[0], _end_of(step)))
        self._insert("put_steps", found)
        self._insert("put_keys", keys)
        self._insert("put_cached", cached)

    def _may_serve(self, step: Step, key: StepKey) -> bool:
        """Whether others may take a step's value, which then outlives a power cut."""
        self._keys.append(key)
        outcome = step.outcome
        if step.state != COMPLETED or outcome is None or outcome.value == UNRECORDED:
            return False
        if key.files or key.given:
            from pipedeco.fingerprint.files import digest_now

            if any(digest != digest_now(path) for path, digest in (*key.files, *key.given)):
                return False  # nobody knows which content the step has read
        if isinstance(outcome.value, str):
            self.blobs.sync(outcome.value)
        return True

    def _insert(self, statement: str, found: list[tuple[Any, ...]]) -> None:
        position = 0
        for size in ROWS if found else ():
            while len(found) - position >= size:
                chunk = found[position : position + size]
                text = self._statements[statement, size]
                self.connection.execute(text, list(chain.from_iterable(chunk)))
                position += size

    def _owned(self, run: Any) -> RunLog | None:
        """The run's log if the run is still ours; the database decides."""
        log = self.runs.get(run)
        return None if log is None else self._owned_log(log)

    def _owned_log(self, log: RunLog) -> RunLog | None:
        if log.error is not None:
            return None
        owned = self.connection.execute(queries()["owns"], {"seq": log.seq, "epoch": log.epoch})
        if owned.fetchone() is None:
            self._give_up(
                log, RunBusy(f"run {log.facts['id']} was taken over by another controller")
            )
            return None
        return log

    def _component(self, log: RunLog, called: Any) -> int:
        number = log.components.get(id(called))
        if number is None:
            number = log.components[id(called)] = len(log.components)
            names = ("code", "parts", "unproven", "sources")
            code = self._code(log, called.component.fn, names)
            row = rows.component_row(log.seq, number, called, code)
            self.connection.execute(queries()["put_component"], row)
            self._reports.put(log.seq, reports.tags_of_steps(called.options.tags))
        return number

    def _code(self, log: RunLog, fn: Any, names: tuple[str, ...]) -> dict[str, Any]:
        """The columns on a function's code; the texts become rows of their own."""
        from blake3 import blake3

        key, texts = log.codes[id(fn)]
        sources = {}
        for name, text in texts.items():
            data = text.encode("utf-8", "surrogatepass")
            sources[name] = blake3(data).hexdigest()
            self.connection.execute(
                queries()["put_source"],
                {"digest": sources[name], "text": data.decode("utf-8", "replace")},
            )
        found = {
            "code": key.digest,
            "parts": json.dumps(key.parts),
            "unproven": json.dumps(key.unproven) if key.unproven else None,
            "sources": json.dumps(sources),
        }
        return {name: found[name] for name in names}


def next_version(known: list[str]) -> str:
    """The version after these: the last number of the highest rises; 1.0.0 after none."""
    if not known:
        return "1.0.0"
    highest = max(_numbers(version) for version in known)
    return f"{highest[0]}.{highest[1]}.{highest[2] + 1}"


def _numbers(version: str) -> tuple[int, int, int]:
    numbers = [int(part) for part in version.split(".") if part.isdecimal()]
    first, second, third = [*numbers, 0, 0, 0][:3]
    return first, second, third


def _release(key: StepKey) -> None:
    if key.release is not None:
        key.release()
        key.release = None


def _multi_row(statement: str, count: int) -> str:
    row = "(" + ",".join("?" * rows.COLUMNS[statement]) + ")"
    return queries()[statement].rstrip(";") + " " + ",".join([row] * count)


def _end_of(step: Step) -> float:
    assert step.outcome is not None
    return step.outcome.started + step.outcome.duration
