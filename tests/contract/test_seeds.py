"""Random numbers: from the run's seed, or from nobody's; in every mode."""

import os
import random
import subprocess
import sys
import textwrap

import numpy
import pytest

import pipedeco
from pipedeco import ConfigError, component, get_run, pipeline
from pipedeco.worker.generators import Generators, child_seed, number_of


@component
def drawn():
    return random.random(), float(numpy.random.rand())


@component(retries=2)
def drawn_at_last(path):
    number = random.random()
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{number!r}\n")
    with open(path, encoding="utf-8") as file:
        if len(file.readlines()) < 3:
            raise OSError("once more")
    return number


@component
def seeding():
    random.seed(1)
    numpy.random.seed(1)


@pipeline(seed=7)
def three():
    return [drawn() for _ in range(3)]


@pipeline
def unseeded(n):
    found = []
    for _ in range(n):
        seeding().result()
        found.append(drawn().result())
    return found


@component
def opening(path):
    with open(path, encoding="utf-8"):
        return random.random()


@pipeline(seed=2)
def fragile(path):
    return drawn(), opening(path)


def expected(seed, step, attempt=1):
    number = number_of(seed, step, attempt)
    python, legacy = (
        random.Random(number),
        numpy.random.RandomState([number % 2**32, number >> 32, 1]),
    )
    return python.random(), float(legacy.rand())


def test_a_step_starts_from_seed_name_and_attempt(mode):
    names = "drawn", "drawn-2", "drawn-3"
    assert three() == [expected(7, name) for name in names]
    assert three.with_options(seed=8)() == [expected(8, name) for name in names]


def test_the_derivation_is_the_same_for_ever():
    assert number_of(0, "fit", 1) == 0x35DE3221AB0FA8C5


def test_another_attempt_draws_other_numbers(mode, tmp_path):
    @pipeline(seed=3)
    def stubborn(path):
        return drawn_at_last(path)

    path = tmp_path / "drawn"
    stubborn(str(path))
    found = [float(line) for line in path.read_text().splitlines()]
    assert found == [expected(3, "drawn_at_last", attempt)[0] for attempt in (1, 2, 3)]


def test_a_child_draws_from_what_is_made_of_its_parents_seed_and_its_name(mode):
    @pipeline
    def child():
        return drawn()

    @pipeline(seed=1)
    def parent():
        return child(), child()

    @pipeline
    def above():
        return three()

    names = "child", "child-2"
    assert parent() == tuple(expected(child_seed(1, name), "drawn") for name in names)
    seeds = {run.parent_step: run.seed for run in get_run().children}
    assert seeds == {name: child_seed(1, name) for name in names}
    assert above() == three()


def test_the_body_and_the_program_draw_as_without_a_seed(mode):
    @pipeline(seed=5)
    def body():
        before = random.random()
        return before, drawn().result(), random.random(), float(numpy.random.rand())

    random.seed(11)
    numpy.random.seed(11)
    found = body()
    assert (random.random(), float(numpy.random.rand())) != found[1]
    random.seed(11)
    numpy.random.seed(11)
    assert found[0] == random.random()
    assert found[1] == expected(5, "drawn")
    assert found[2:] == (random.random(), float(numpy.random.rand()))


def test_a_step_that_seeds_decides_nothing_for_the_next(mode):
    if mode == "debug":
        pytest.skip("without a seed the steps of debug mode draw from the program's own stream")
    found = unseeded.with_options(workers=1)(3)
    assert len({number for pair in found for number in pair}) == 6


def test_a_worker_that_had_a_seed_draws_without_one(mode):
    one = three.with_options(workers=1)
    known = one()
    state = random.getstate(), numpy.random.get_state()
    found = [one.with_options(seed=None)() for _ in range(2)]
    random.setstate(state[0])
    numpy.random.set_state(state[1])
    assert len({pair for pairs in (known, *found) for pair in pairs}) == 9


def test_the_seed_is_recorded_and_kept_by_rerun(mode):
    first = three()
    run = get_run()
    assert run.seed == 7
    assert run.to_json()["seed"] == 7
    assert three.with_options(seed=-12)() != first
    again = get_run().rerun()
    assert again.result() != first
    assert again.seed == -12
    assert [step.result() for step in again.steps.values()] == [
        expected(-12, name) for name in ("drawn", "drawn-2", "drawn-3")
    ]


def test_resume_goes_on_with_the_recorded_seed(mode, tmp_path):
    flag = tmp_path / "flag"
    with pytest.raises(Exception, match="No such file"):
        fragile(str(flag))
    run = get_run()
    flag.touch()
    with pytest.raises(ConfigError, match="goes on with its own seed, 2"):
        run.resume(seed=3)
    assert run.resume().result() == (expected(2, "drawn"), expected(2, "opening")[0])


def test_a_replayed_step_draws_what_it_drew(mode):
    values = three()
    state = random.getstate()
    assert get_run().steps["drawn-2"].replay() == values[1]
    assert random.getstate() == state


def test_a_cached_step_hits_by_seed_and_name(mode):
    @component(cache=True)
    def sampled(n):
        return [random.random() for _ in range(n)]

    @pipeline(seed=0)
    def sampling():
        return [sampled(2), sampled(2)]

    first = sampling()
    assert first[0] != first[1]
    assert sampling() == first
    assert [step.state for step in get_run().steps.values()] == ["cached", "cached"]
    other = sampling.with_options(seed=1)
    assert other()[0] not in first
    assert "the seed of its numbers differs (0/sampled -> 1/sampled)" in str(
        get_run().steps["sampled"].why()
    )
    plain = sampling.with_options(seed=None)()
    assert plain[0] == plain[1]  # without a seed its name does not count


SEEDED_LATE = """
    from pipedeco import component, pipeline

    @component
    def late():
        import random
        import numpy as np
        return random.random(), float(np.random.rand())

    @pipeline(seed=4, mode={mode!r}, start_method={method!r}, workers=1)
    def run():
        return late()

    if __name__ == "__main__":
        print(run())
        import random, numpy
        print(random.random(), numpy.random.rand())
"""


@pytest.mark.parametrize(("mode", "method"), [("debug", None), ("local", None), ("local", "spawn")])
def test_what_a_step_imports_first_is_seeded(tmp_path, mode, method):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SEEDED_LATE.format(mode=mode, method=method)))
    said = [
        subprocess.run(
            [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert said[0][0] == said[1][0] == str(expected(4, "late"))
    assert said[0][1] != said[1][1]  # the program's own start from entropy


def test_no_two_workers_draw_the_same():
    """Forked from a process that has used its generators, and seeded them."""
    random.seed(1)
    numpy.random.seed(1)
    reader, writer = os.pipe()
    for _ in range(2):
        if os.fork() == 0:
            try:
                Generators()
                os.write(writer, f"{random.random()} {numpy.random.rand()}\n".encode())
            finally:
                os._exit(0)
        os.wait()
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        assert len(set(file.read().split())) == 4


def test_a_seed_is_a_whole_number():
    assert three.with_options(seed=numpy.int64(3)).options.seed == 3
    for wrong in (1.5, "0", True):
        with pytest.raises(ConfigError, match="seed is a whole number"):
            pipeline(seed=wrong)(lambda: None)
    with pytest.raises(ConfigError, match="no setting 'seed'"):
        pipedeco.configure(seed=0)


SEEDS_ITSELF = """
    import random
    from pipedeco import component, pipeline

    random.seed(1)

    @component
    def draw():
        return random.random()

    @pipeline
    def run():
        return draw()

    @pipeline(seed=1)
    def seeded():
        return draw()

    if __name__ == "__main__":
        seeded.local()
        run.debug()
        print("so far", flush=True)
        run.local()
        run.local()
"""


def test_a_program_that_seeds_itself_is_told_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SEEDS_ITSELF))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=True,
    )  # fmt: skip
    before, _, after = done.stdout.partition("so far")
    assert "UserWarning" not in before
    assert after.count("UserWarning") == 1
    assert f"{script}:5: UserWarning: random.seed() seeds this process alone" in after
    assert "@pipeline(seed=0)" in after


@component
def draw_both():
    import random

    return random.random(), numpy.random.rand()


def test_each_library_has_numbers_of_its_own(mode):
    @pipeline(seed=0)
    def run():
        return [draw_both() for _ in range(3)]

    assert all(one != other for one, other in run())
