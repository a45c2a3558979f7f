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

from pipedeco.worker.children import kill_trees

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
        _allow_many_files()
        try:
            attended = _Attended(os.pidfd_open(controller))
        except ProcessLookupError:  # it has ended meanwhile
            _Attended(-1).end()
        else:
            attended.wait()
    os._exit(0)


class _Attended:
    """The processes that an attendant was told of, by their pidfds."""

    def __init__(self, controller: int, told: int = 0) -> None:
        self.controller = controller
        self._told = told  # where their numbers are read
        self.pids: dict[int, int] = {}
        self.listening = True
        self._rest = b""  # of a line that is not whole yet
        self._polled = select.poll()  # which takes descriptors of 1024 and more, too
        for file in (told, controller):
            if file >= 0:
                self._polled.register(file, select.POLLIN)

    def wait(self) -> None:
        """Return when the controller has ended, with all of them, or when there is no more to do."""
        while self.listening or self.pids:
            if self.controller in self._take(None):
                self.end()
                return

    def end(self) -> None:
        """Kill those that do not end by themselves."""
        if self.controller >= 0:
            self._polled.unregister(self.controller)
        while self._told in self._take(0.0) and self.listening:  # what it has told last
            pass
        while self.pids and self._take(PATIENCE):
            pass
        kill_trees(self.pids.values())

    def _take(self, seconds: float | None) -> list[int]:
        """Wait for what happens; the descriptors that are ready."""
        ready = [file for file, _ in self._polled.poll(None if seconds is None else seconds * 1000)]
        if self._told in ready:
            self.hear()
        for file in self.pids.keys() & ready:
            self._polled.unregister(file)
            os.close(file)
            del self.pids[file]
        return ready

    def hear(self) -> None:
        """Take what there is to read, or that there will be no more."""
        data = os.read(self._told, LINES)
        if not data:
            self.listening = False
            self._polled.unregister(self._told)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                file = os.pidfd_open(int(line))
            except OSError:  # it has ended, or there are more than this process may have open
                continue
            self.pids[file] = int(line)
            self._polled.register(file, select.POLLIN)


def _allow_many_files() -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
