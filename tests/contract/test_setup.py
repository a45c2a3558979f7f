"""setup=: a function that is called once in each worker process, before its first step of a run."""

import logging
import os
import subprocess
import sys
import textwrap
import time
import traceback

import pytest
from conftest import wait_for

import pipedeco
from pipedeco import ConfigError, RunFailed, StepTimeout, component, get_run, pipeline

SET = []


def prepare():
    print("prepared")
    SET.append("own")
    os.environ["PREPARED"] = "yes"


def prepare_all():
    SET.append("all")


def prepare_once():
    """For one test alone: a worker that a run before has set up alike is set up once more."""
    SET.append("once")


def raise_it():
    raise LookupError("no such model")


def leave():
    raise SystemExit(4)


def die():
    os._exit(9)


@component
def seen():
    return os.getpid(), list(SET), os.environ.get("PREPARED")


@component
def change():
    os.environ["PREPARED"] = "changed"
    SET.append("by a step")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.delenv("PREPARED", raising=False)
    monkeypatch.setenv("PREPARED", "")
    SET.clear()
    yield
    pipedeco.configure(setup=None)


def test_it_is_called_once_in_each_process(mode):
    @pipeline(setup=prepare)
    def run():
        return [seen() for _ in range(6)]

    found = run()
    once = {(pid, len(names)) for pid, names, _ in found}
    assert len(once) == len({pid for pid, _, _ in found})
    assert {names[-1] for _, names, _ in found} == {"own"}
    assert {variable for _, _, variable in found} == {"yes"}


def test_that_of_configure_comes_first(mode):
    pipedeco.configure(setup=prepare_all)

    @pipeline(setup=prepare)
    def run():
        return seen()

    assert run()[1][-2:] == ["all", "own"]


def test_its_effect_is_what_a_worker_goes_back_to(mode):
    @pipeline(setup=prepare, workers=1)
    def run():
        change().result()
        return seen()

    assert run()[2] == ("changed" if mode == "debug" else "yes")


def test_it_is_called_for_the_next_run_again(mode):
    @pipeline(setup=prepare, workers=1)
    def run():
        return seen()

    runs = [run() for _ in range(4)]
    for pid in {found[0] for found in runs}:
        counts = [len(names) for process, names, _ in runs if process == pid]
        assert counts == list(range(counts[0], counts[0] + len(counts)))


def test_a_run_without_it_meets_nothing_of_it(mode):
    if mode == "debug":
        pytest.skip("in debug mode it is this process that is set up")

    @pipeline(workers=1)
    def run():
        return seen()

    run.with_options(setup=prepare)()
    assert run()[1:] == ([], "")


def test_a_worker_that_is_replaced_is_set_up(mode):
    if mode == "debug":
        pytest.skip("a step of debug mode takes this process with it")

    @component(allow_failure=True)
    def ends():
        os._exit(1)

    @pipeline(setup=prepare_once, workers=1)
    def run():
        seen().result()
        ends().exception()
        return seen()

    assert run()[1] == ["once"]


def test_a_child_runs_its_parents_and_then_its_own(mode):
    @pipeline(setup=prepare)
    def child():
        return seen()

    @pipeline(setup=prepare_all, workers=1)
    def parent():
        return child(), seen()

    one, other = parent()
    assert one[1][-2:] == ["all", "own"]
    assert "all" in other[1]


def test_a_child_without_its_own_does_not_repeat_its_parents(mode):
    @pipeline
    def child():
        return seen()

    @pipeline(setup=prepare, workers=1)
    def parent():
        return [child().result() for _ in range(2)], seen()

    children, last = parent()
    found = {pid: len(names) for pid, names, _ in [*children, last]}
    assert all(found[pid] == len(names) for pid, names, _ in [*children, last])
    assert last[2] == children[1][2] == "yes"


@pytest.mark.parametrize(
    ("function", "text"), [(raise_it, "LookupError: no such model"), (leave, "SystemExit: 4")]
)
def test_what_it_raises_fails_the_run(mode, function, text):
    @component(retries=3)
    def never():
        raise AssertionError("a step was performed")

    @pipeline(setup=function)
    def run():
        for _ in range(4):
            try:
                never().result()
            except Exception:  # noqa: BLE001 - a body that goes on whatever happens
                pass

    with pytest.raises(RunFailed, match=f"setup={function.__name__}, .* raised {text}") as caught:
        run()
    said = "".join(map(str, [caught.value.__cause__, *_lines(caught.value.__cause__)]))
    assert function.__name__ in said
    recorded = get_run()
    assert recorded.status == "failed"
    assert text in recorded.error
    assert {step.state for step in recorded.steps.values()} == {"cancelled"}


def _lines(error):
    return [*traceback.format_exception(error), *getattr(error, "__notes__", ())]


def test_a_worker_that_dies_in_it_fails_the_run(mode):
    if mode == "debug":
        pytest.skip("it takes this process with it")

    @pipeline(setup=die)
    def run():
        return seen()

    with pytest.raises(RunFailed, match=r"setup=die, .* ended: exit status 9"):
        run()


def test_it_belongs_to_nobodys_timeout(mode):
    @component(timeout=0.3)
    def short():
        return 1

    def slow():
        time.sleep(0.6)

    @pipeline(setup=slow)
    def run():
        return short()

    assert run() == 1


def test_a_step_still_has_its_timeout(mode):
    if mode == "debug":
        pytest.skip("a timeout only warns in debug mode")

    @component(timeout=0.2)
    def long():
        time.sleep(60)

    @pipeline(setup=prepare)
    def run():
        return long()

    with pytest.raises(StepTimeout):
        run()


def test_a_cancel_ends_it(mode, tmp_path):
    if mode == "debug":
        pytest.skip("start() returns after the run in debug mode")
    begun = tmp_path / "begun"

    def endless():
        begun.touch()
        time.sleep(60)

    @pipeline(setup=endless)
    def run():
        return seen()

    started = run.start()
    wait_for(begun)
    started.cancel()
    assert started.wait(20)
    assert started.status == "cancelled"


def test_what_it_prints_stands_in_the_log_of_the_first_step(mode, capfd):
    @pipeline(setup=prepare)
    def run():
        return seen()

    run()
    assert get_run().logs("seen").strip() == "prepared"
    assert capfd.readouterr().out.count("prepared") == 1


def test_it_may_be_a_closure_or_a_component(mode):
    word = "closed over"

    def closure():
        os.environ["PREPARED"] = word

    @pipeline
    def run():
        return seen()

    assert run.with_options(setup=closure)()[2] == word
    assert run.with_options(setup=change)()[2] == "changed"


def test_what_cannot_be_is_refused():
    async def later():
        pass

    for wrong, text in (
        (3, "setup is a function, not 3"),
        (later, "later is async"),
        (lambda x: x, "called without arguments: missing a required argument: 'x'"),
    ):
        with pytest.raises(ConfigError, match=text):
            pipeline(setup=wrong)(lambda: None)
        with pytest.raises(ConfigError, match=text):
            pipedeco.configure(setup=wrong)


REGISTRY = """
    ready = False

    def set_up():
        global ready
        ready = True
"""
MODELS = """
    import registry

    if not registry.ready:
        raise RuntimeError("the registry is not ready")

    class Row:
        def __init__(self, name):
            self.name = name
"""
PROGRAM = """
    import sys
    import pipedeco
    import registry
    from pipedeco import component, pipeline

    registry.set_up()
    from models import Row

    @component
    def made(name):
        return Row(name)

    @component
    def name_of(row):
        return row.name

    @pipeline(setup=registry.set_up)
    def run():
        return name_of(made("a")), name_of(Row("b"))

    pipedeco.configure(queues={"default": "local://1"}, workers=1)
    mode, method = sys.argv[1:]
    print(run.with_options(mode=mode, start_method=method)())
"""


@pytest.mark.parametrize(
    ("mode", "method"),
    [("debug", "nursery"), ("local", "nursery"), ("local", "spawn"), ("remote", "nursery")],
)
def test_what_a_module_needs_before_it_can_be_imported(tmp_path, mode, method):
    """As models of Django do; the script's own names of it are made after that, too."""
    for name, text in (("registry", REGISTRY), ("models", MODELS), ("program", PROGRAM)):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "program.py", mode, method],
        cwd=tmp_path, env={**os.environ, "PIPEDECO_STORE": str(tmp_path / "store")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("('a', 'b')\n", "")


def set_up_logging():
    import logging

    logger = logging.getLogger("setup.own")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.StreamHandler(sys.stdout))


@component
def log(n):
    import logging

    logging.getLogger("setup.own").debug("step %d", n)


def test_logging_that_it_sets_up_stays(mode):
    @pipeline(setup=set_up_logging, workers=1)
    def run():
        for n in range(3):
            log(n).result()

    run()
    if mode == "debug":  # it has set up this process
        logging.getLogger("setup.own").handlers.clear()
    run = get_run()
    assert [run.logs(step) for step in run.steps] == ["step 0\n", "step 1\n", "step 2\n"]


@pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)
def test_what_it_sets_in_logging_itself_stays(mode):
    """And what a step sets there does not."""

    def prepare():
        logging.addLevelName(20, "INFORM")
        logging.raiseExceptions = False

    @component
    def step(number):
        logging.getLogger(f"new.{number}").debug("a logger is made")
        found = logging.getLevelName(20), logging.getLevelName(33), logging.raiseExceptions
        logging.addLevelName(33, "ODD")
        logging.raiseExceptions = True
        return found

    @pipeline(workers=1, setup=prepare)
    def body():
        return [step(number).result() for number in range(3)]

    assert body() == [("INFORM", "Level 33", False)] * 3
