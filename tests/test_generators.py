"""Global generators of random numbers: what is seeded, what is put back, what is noticed."""

import random
import sys
from types import SimpleNamespace

import numpy
import pytest

from pipedeco.worker.generators import Generators, number_of, seeded


@pytest.fixture(autouse=True)
def as_before():
    """These are the generators of all tests."""
    states = random.getstate(), numpy.random.get_state()
    yield
    random.setstate(states[0])
    numpy.random.set_state(states[1])


class Torch(SimpleNamespace):
    """As much of torch as is used, without CUDA."""

    def __init__(self):
        super().__init__(cuda=SimpleNamespace(is_initialized=lambda: False))
        self.seeds = [5]

    def manual_seed(self, number):
        self.seeds.append(number)

    def initial_seed(self):
        return self.seeds[-1]

    def seed(self):
        self.seeds.append(-1)

    def get_rng_state(self):
        return self.seeds[-1]

    def set_rng_state(self, state):
        self.seeds.append(state)


@pytest.fixture
def torch(monkeypatch):
    found = Torch()
    monkeypatch.setitem(sys.modules, "torch", found)
    return found


@pytest.mark.parametrize(
    ("again", "draw"),
    [
        (lambda: random.seed(1), random.random),
        (lambda: numpy.random.seed(1), numpy.random.rand),
        (lambda: numpy.random.seed([1, 2]), numpy.random.rand),
        (lambda: random.setstate(random.Random(1).getstate()), random.random),
        (
            lambda: numpy.random.set_state(numpy.random.RandomState(1).get_state()),
            numpy.random.rand,
        ),
    ],
)
def test_what_a_step_has_seeded_starts_from_entropy(again, draw):
    generators = Generators()
    again()
    known = draw()
    for _ in range(2):  # also where it was seeded with the same number before
        again()
        generators.restore()
        assert draw() != known


def test_what_a_step_has_drawn_is_left_alone():
    generators = Generators()
    state = random.getstate()
    numpy.random.rand(5)
    position = numpy.random.get_state()
    generators.restore()
    assert random.getstate() == state
    assert str(numpy.random.get_state()) == str(position)


def test_a_generator_of_another_kind_is_seeded_too():
    numpy.random.set_bit_generator(numpy.random.PCG64(1))
    try:
        with seeded(0, "fit", 1):
            first = numpy.random.rand()
        with seeded(0, "fit", 1):
            assert numpy.random.rand() == first
        Generators().restore()
    finally:
        numpy.random.set_bit_generator(numpy.random.MT19937())


def test_torch_is_seeded_where_it_is_imported(torch):
    with seeded(0, "fit", 2):
        assert torch.seeds[-1] == number_of(0, "fit", 2)
    assert torch.seeds[-1] == 5
    generators = Generators()
    generators.restore()
    own = torch.seeds[-1]
    torch.manual_seed(3)
    generators.restore()
    assert torch.seeds[-1] not in (3, own)


def test_nothing_is_imported_for_it():
    code = (
        "import sys; from pipedeco.worker.generators import Generators as G; g = G(); g.restore()"
    )
    code += "; g.enter(0); g.begin('fit', 1); print(*{'numpy', 'random'} & set(sys.modules))"
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_finder_goes_with_the_seed():
    before = list(sys.meta_path)
    with seeded(0, "fit", 1):
        assert len(sys.meta_path) == len(before) + 1
    generators = Generators()
    generators.enter(0)
    generators.enter(1)
    assert len(sys.meta_path) == len(before) + 1
    generators.enter(None)
    assert sys.meta_path == before
