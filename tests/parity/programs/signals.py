"""Alarms in steps, handlers of the program, and limits."""

import resource
import signal
import threading
from contextlib import contextmanager

from pipedeco import component, pipeline, value


class TimedOut(Exception):
    pass


@contextmanager
def time_limit(seconds):
    def stop(number, frame):
        raise TimedOut(f"{signal.Signals(number).name} after {seconds} s")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@component
def wait(seconds):
    with time_limit(seconds):
        threading.Event().wait(20)


@component
def main_thread():
    return threading.current_thread() is threading.main_thread(), threading.main_thread().name


@component
def raised():
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    signal.raise_signal(signal.SIGUSR1)
    return seen == [signal.SIGUSR1]


@component
def files():
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft, signal.getsignal(signal.SIGPIPE).name, signal.getsignal(signal.SIGUSR2)


@pipeline
def main():
    try:
        value(wait(0.01))
    except TimedOut as error:
        print(error)
    print(*main_thread(), raised())
    return files()[0]


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    print(main())
