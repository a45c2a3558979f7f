"""An attendant: a process that waits for the end of this one, and then kills what it was told of.

It is for processes that are not below a nursery.  In debug mode steps are performed in the program's
own process, and what they have started is to end with it.  And where a debugger holds every process
that the program starts, until it has attached, the nursery itself may not have come to the lines
that watch its controller.
"""

from __future__ import annotations

import os
import select
import sys

from pipedeco.worker.children import kill_tree

PATIENCE = 0.5  # seconds that the attended have to end by themselves
LINES = 4096  # bytes of pids that are read at once
PROGRAM = (
    "import sys;sys.path.append(sys.argv[1]);from pipedeco.worker.attendant import attend;"
    "attend(int(sys.argv[2]))"
)


class Attendant:
    """The attendant of this process, which is started by this.

    Parameters
    ----------
    pids : int
        Whom it attends from the start.
    """

    def __init__(self, *pids: int) -> None:
        import posix

        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        theirs, self._ours = os.pipe()
        self.tell(*pids)  # before it runs, as we may be killed any time
        command = [sys.executable, "-I", "-S", "-c", PROGRAM, root, str(os.getpid())]
        # Not os.posix_spawn, in whose place a debugger has one that makes processes wait for it.
        try:
            pid = posix.posix_spawn(
                sys.executable,
                command,
                {name: text for name, text in os.environ.items() if name.startswith("LD_")},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)],
            )
        except OSError:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)
        try:
            os.waitpid(pid, 0)  # it has forked, so that nobody here waits for it
        except ChildProcessError:  # the user's code waits for every child
            pass

    def tell(self, *pids: int) -> None:
        """Have it attend these processes, too."""
        try:
            os.write(self._ours, "".join(f"{pid}\n" for pid in pids).encode())
        except BrokenPipeError:  # somebody has killed it
            pass

    def close(self) -> None:
        """Tell it of nobody else."""
        os.close(self._ours)


def attend(controller: int) -> None:
    """The attendant's life; it reads pids from its standard input."""
    if os.fork() == 0:
        os.setsid()
        try:
            attended = _Attended(os.pidfd_open(controller))
        except ProcessLookupError:  # it has ended meanwhile
            _Attended(-1).end()
        else:
            attended.wait()
    os._exit(0)


class _Attended:
    """The processes that an attendant was told of, by their pidfds."""

    def __init__(self, controller: int) -> None:
        self.controller = controller
        self.pids: dict[int, int] = {}
        self.listening = True

    def wait(self) -> None:
        """Return when the controller has ended, with all of them, or when there is no more to do."""
        while self.listening or self.pids:
            own = [0] if self.listening else []
            ready, _, _ = select.select([self.controller, *own, *self.pids], [], [])
            if 0 in ready:
                self._hear()
            self._forget(ready)
            if self.controller in ready:
                self.end()
                return

    def _hear(self) -> None:
        lines = os.read(0, LINES)
        self.listening = bool(lines)
        for line in lines.split():
            try:
                self.pids[os.pidfd_open(int(line))] = int(line)
            except ProcessLookupError:  # it has ended
                pass

    def _forget(self, ended: list[int]) -> None:
        for file in ended:
            if self.pids.pop(file, None) is not None:
                os.close(file)

    def end(self) -> None:
        """Kill those that do not end by themselves."""
        if self.listening and select.select([0], [], [], 0.0)[0]:
            self._hear()
        while self.pids:
            ready, _, _ = select.select(list(self.pids), [], [], PATIENCE)
            self._forget(ready)
            if not ready:
                break
        for pid in self.pids.values():
            kill_tree(pid)
