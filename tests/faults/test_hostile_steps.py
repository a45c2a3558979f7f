"""Steps that misuse their process, or ask much of it, harm nobody else."""

from __future__ import annotations

import textwrap

import pytest

MEBI = 1 << 20


def test_50_mb_arguments_to_16_steps_at_once(lab):
    """Large arguments and large results cross without a deadlock."""
    done = lab.run(
        """
        SIZE = 50_000_000


        @component
        def measure(data, n):
            assert data[0] == data[-1] == n
            return len(data), data[:1_000_000]


        @pipeline(workers=4)
        def main():
            return value([measure(bytes([n]) * SIZE, n) for n in range(16)])


        print([(size, echo == bytes([n]) * 1_000_000) for n, (size, echo) in enumerate(main())]
              == [(SIZE, True)] * 16)
        """,
        40.0,
    )
    assert done.out == "True\n"


def test_many_small_messages_both_ways_do_not_deadlock(lab):
    """Arguments and results just below what goes into a file fill every pipe."""
    done = lab.run("""
        @component
        def echo(data):
            return data


        @pipeline(workers=4)
        def main():
            return sum(map(len, value([echo(bytes(60_000)) for _ in range(2000)])))


        print(main())
        """)
    assert done.out == f"{2000 * 60_000}\n"


def test_a_step_may_close_every_low_descriptor(lab):
    """Closing 0 to 255 takes nothing from the worker that it needs."""
    done = lab.run("""
        @component
        def close():
            os.closerange(0, 256)
            return "closed"


        @component
        def after(n):
            print("after", n, flush=True)
            return n


        @pipeline(workers=1)
        def main():
            return value([close(), after(1), after(2)])


        print(main())
        """)
    assert done.out.splitlines()[-1] == "['closed', 1, 2]"


CHANGES = {
    "os.chdir('/')": "os.getcwd()",
    "os.environ['PIPEDECO_TEST_NEW'] = '1'": "dict(os.environ)",
    "os.environ.pop('HOME')": "os.environ['HOME']",
    "sys.path.clear()": "list(sys.path)",
    "os.umask(0o777)": "(os.umask(0o22), os.umask(0o22))[0]",
    "sys.setrecursionlimit(77)": "sys.getrecursionlimit()",
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN)": "str(signal.getsignal(signal.SIGCHLD))",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)": "str(signal.getsignal(signal.SIGTERM))[:25]",
    "signal.alarm(1)": "signal.alarm(0)",
    "signal.pthread_sigmask(signal.SIG_BLOCK, [10])": "signal.pthread_sigmask(0, [])",
    "sys.stdout = None": "sys.stdout is None",
    "sys.stdout.close()": "sys.stdout.closed",
    "os.close(1)": "os.fstat(1).st_mode",
    "sys.argv.clear()": "sys.argv",
    "__import__('threading').Thread(target=time.sleep, args=(999,)).start()": "1",
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_next_step_starts_clean(lab, change):
    """What a step does to its process is undone before the next one, or the worker replaced."""
    done = lab.run(f"""
        @component
        def change():
            {change}


        @component
        def probe(n):
            print("probed")
            return {CHANGES[change]}


        @pipeline(workers=1)
        def main():
            before = probe(1).result()
            change().result()
            return before == probe(2).result()


        print(main())
        """)
    assert done.out.splitlines() == ["probed", "probed", "True"]


def test_20_mb_of_log(lab):
    """All of it is in the step's log and on stdout, binary junk and long lines too."""
    done = lab.run("""
        @component
        def talk():
            for n in range(20):
                os.write(1, b"x" * 1_000_000 + bytes([0xFF, 0x00, 10]))
            print("the end")


        @pipeline
        def main():
            return talk()


        main()
        """)
    log = lab.latest().steps["talk"].logs()
    assert log.count("x") >= 20_000_000
    assert log.endswith("the end\n")
    assert done.out.count("x") >= 20_000_000
    assert done.out.endswith("the end\n")


def test_a_subprocess_writes_into_the_log_of_its_step(lab):
    """The log is taken from descriptors, not from sys.stdout."""
    lab.run("""
        @component
        def shell():
            os.system("echo from the shell; echo to stderr >&2")


        @pipeline
        def main():
            return shell()


        main()
        """)
    assert lab.latest().steps["shell"].logs() == "from the shell\nto stderr\n"


FORKS = {
    "os._exit(0)": "os._exit(0)",
    "sys.exit(0)": "sys.exit(0)",
    "exception": "raise ValueError('in the child')",
}


@pytest.mark.parametrize("end", FORKS)
def test_a_child_forked_in_the_body_ends_without_harm(lab, end):
    """The child neither hangs nor closes, records or kills what is its parent's."""
    lab.run(f"""
        import warnings
        warnings.simplefilter("ignore")


        @component
        def work(n):
            return n


        @pipeline(workers=2)
        def main():
            first = value([work(n) for n in range(5)])
            child = os.fork()
            if child == 0:
                {FORKS[end]}
            until = time.monotonic() + 8
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                assert time.monotonic() < until, "the child hangs"
                time.sleep(0.01)
            return first + value([work(n) for n in range(5, 10)])


        result = main()
        note("result", result)
        """)
    assert (lab.folder / "result").read_text() == str(list(range(10)))
    assert lab.latest().status == "completed"
    lab.assert_sound()


@pytest.mark.parametrize("mode", ["local", "debug"])
def test_a_process_that_a_step_forked_ends_by_sigterm(lab, mode):
    """At once, and by the signal, as without us; a pool of processes waits for that."""
    done = lab.run(f"""
        import multiprocessing
        import signal
        import warnings
        warnings.simplefilter("ignore")


        @component
        def ended():
            child = os.fork()
            if child == 0:
                os._exit(0 if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL else 1)
            default = os.waitpid(child, 0)[1] == 0
            sleeper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
            sleeper.start()
            sleeper.terminate()
            sleeper.join()
            return default, sleeper.exitcode


        @component
        def pooled(n):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                return sum(pool.map(abs, [n, -n]))


        @pipeline(mode="{mode}", workers=2)
        def main():
            return value(ended()), sum(value([pooled(n) for n in range(60)]))


        print(main())
        """)
    assert done.out == f"((True, -15), {60 * 59})\n"
    assert "Traceback" not in done.err


def test_a_child_forked_between_runs_ends_without_harm(lab):
    """A child that ends normally leaves its parent's pool and store as they are."""
    done = lab.run("""
        import warnings
        warnings.simplefilter("ignore")


        @component
        def work(n):
            return n, os.getpid()


        @pipeline(workers=1)
        def main(n):
            return work(n)


        first = main(1)
        child = os.fork()
        if child == 0:
            sys.exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        second = main(2)
        print(first[0], second[0], first[1] == second[1])
        """)
    assert done.out == "1 2 True\n"
    lab.assert_sound()


FORKING = """
import warnings
warnings.simplefilter("ignore")


@component
def work(n):
    return n


@pipeline(workers=1)
def main(n):
    return work(n)


main(1)
"""


def test_a_forked_child_may_run_pipelines_of_its_own(lab):
    """The child starts workers of its own, and both records are there."""
    source = """
        child = os.fork()
        if child == 0:
            sys.exit(main(42))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, main(3))
        """
    done = lab.run(FORKING + textwrap.dedent(source))
    assert done.out == "42 3\n"
    assert lab.latest().number == 3
    lab.assert_sound()


def test_a_child_that_is_forked_amid_a_commit_may_run_pipelines(lab):
    """The fork waits for the commit's end: for the child's SQLite it would never come."""
    source = """
        from pipedeco.store.recorder import Recorder

        write = Recorder._write_entries


        def slowly(recorder, group):
            write(recorder, group)
            if Path("slowly").exists():
                note("committing")
                time.sleep(1.0)


        Recorder._write_entries = slowly
        note("slowly")
        run = main.start(2)
        wait_for("committing")
        child = os.fork()
        if child == 0:
            Path("slowly").unlink()
            sys.exit(main(42))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert run.result() == 2
        """
    lab.run(FORKING + textwrap.dedent(source))
    lab.assert_sound()


def test_a_started_run_is_waited_for_at_exit(lab):
    """The end of the script does not cut off what it started."""
    lab.run("""
        @component
        def work(n):
            time.sleep(0.1)
            return n


        @pipeline(workers=2)
        def main():
            return value([work(n) for n in range(6)])


        main.start()
        """)
    assert lab.latest().status == "completed"
    assert lab.latest().result() == [0, 1, 2, 3, 4, 5]
