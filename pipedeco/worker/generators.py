"""The global generators of random numbers that steps draw from: those of random, NumPy and torch.

    a run with a seed      each step starts from `number_of(seed, step, attempt)`, in every mode
    a run without          each worker starts from entropy, and does so again after a step that has
                           seeded a generator, so that no step draws what another one decided

Only what is imported is touched.  A module that a step with a seed imports is seeded as soon as it
is there; that takes a finder of modules, which is in place for such runs alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pipedeco.finders import spec_calling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec

BYTES = 8  # of a number that seeds


def number_of(seed: int, step: str, attempt: int) -> int:
    """Return the number that seeds the generators for an attempt of a step.

    It is made of the first eight bytes, little-endian, of the BLAKE3 digest of
    ``f"{seed}/{step}/{attempt}"``, and goes to ``random.seed(number)``,
    ``numpy.random.seed([number % 2**32, number >> 32, 1])`` and ``torch.manual_seed(number)``.
    The 1 sets NumPy's numbers apart from those of `random`, which has the same generator.
    """
    from blake3 import blake3

    text = f"{seed}/{step}/{attempt}"
    return int.from_bytes(blake3(text.encode()).digest()[:BYTES], "little")


def child_seed(seed: int, step: str) -> int:
    """Return the seed of a child run that is a step of a run with a seed.

    It is another one for each child, since steps of two children may have the same names.
    """
    return number_of(seed, step, 0)  # attempts count from 1


class _Kind(Protocol):
    """The global generator of one library, given its module."""

    module: str
    entry: str  # what the module has once it can be used

    def seed(self, module: Any, number: int) -> None:
        """Let it start from a number of 64 bits."""

    def state(self, module: Any) -> Any:
        """Its state, for `put_back`."""

    def put_back(self, module: Any, state: Any) -> None:
        """Undo what has been done since `state`."""

    def watch(self, module: Any) -> Callable[[], Any]:
        """Give what reads something, cheaply, that is another once somebody has seeded it."""


class _Random:
    module = "random"
    entry = "seed"

    def seed(self, module: Any, number: int) -> None:
        module.seed(number)

    def state(self, module: Any) -> Any:
        return module.getstate()

    def put_back(self, module: Any, state: Any) -> None:
        module.setstate(state)

    def watch(self, module: Any) -> Callable[[], Any]:
        module.gauss()  # makes two numbers and keeps the second, which seed() throws away
        return partial(getattr, module.gauss.__self__, "gauss_next")


class _NumPy:
    module = "numpy.random"
    entry = "seed"

    def seed(self, module: Any, number: int) -> None:
        generator = module.mtrand._rand._bit_generator
        if isinstance(generator, module.MT19937):
            module.seed([number & 0xFFFFFFFF, number >> 32, 1])
        else:  # the user's choice, which has no seed()
            module.set_bit_generator(type(generator)(number))

    def state(self, module: Any) -> Any:
        return module.mtrand._rand._bit_generator, module.get_state(legacy=False)

    def put_back(self, module: Any, state: Any) -> None:
        generator, own = state
        if module.mtrand._rand._bit_generator is not generator:
            module.set_bit_generator(generator)
        module.set_state(own)

    def watch(self, module: Any) -> Callable[[], Any]:
        """A part of its key, which seeding replaces, and else only every 624th number drawn."""
        from ctypes import c_uint64

        module.random_sample()  # the first number after a seed replaces it, too
        rand = module.mtrand._rand
        generator = rand._bit_generator
        part = c_uint64.from_address(generator.ctypes.state_address + BYTES)
        return lambda: part.value if rand._bit_generator is generator else None


class _Torch:
    module = "torch"
    entry = "manual_seed"

    def seed(self, module: Any, number: int) -> None:
        module.manual_seed(number)  # CUDA's, too, now or when it is used first

    def state(self, module: Any) -> Any:
        cuda = module.cuda
        return module.get_rng_state(), cuda.get_rng_state_all() if cuda.is_initialized() else None

    def put_back(self, module: Any, state: Any) -> None:
        own, devices = state
        if devices is None:
            module.seed()  # CUDA may have been used since; its own start was not seeded either
        else:
            module.cuda.set_rng_state_all(devices)
        module.set_rng_state(own)

    def watch(self, module: Any) -> Callable[[], Any]:
        initial: Callable[[], Any] = module.initial_seed
        return initial


KINDS: tuple[_Kind, ...] = (_Random(), _NumPy(), _Torch())
_UNKNOWN: tuple[Callable[[], Any], Any] = (lambda: None, None)


def _imported() -> Iterator[tuple[_Kind, Any]]:
    """The kinds whose modules are there, and whole."""
    for kind in KINDS:
        module = _whole(kind)
        if module is not None:
            yield kind, module


def _whole(kind: _Kind) -> Any:
    """A kind's module; None where it is not imported, or another thread has just begun to."""
    module = sys.modules.get(kind.module)
    return module if hasattr(module, kind.entry) else None


def _entropy() -> int:
    return int.from_bytes(os.urandom(BYTES), "little")


class Generators:
    """The generators of a worker, whose steps are not to depend on one another.

    A worker may be forked from a process that has used or seeded them: they start from entropy.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._watched: dict[_Kind, tuple[Callable[[], Any], Any]] = {}
        self._finder = _Finder()
        self._choose()
        self.restore()

    def enter(self, seed: int | None) -> None:
        """A run begins; its steps start from this seed, or from nobody's."""
        if self._seed is not None:
            self._watched.clear()
            self._finder.leave()
        self._seed = seed
        self.restore()
        if seed is not None:
            self._finder.enter()

    def begin(self, step: str, attempt: int) -> None:
        """A step is about to be called, in a run with a seed."""
        assert self._seed is not None
        self._finder.seed(number_of(self._seed, step, attempt))

    @property
    def seeded(self) -> bool:
        return self._seed is not None

    def restore(self) -> None:
        """A step has ended: what it has seeded starts from entropy again.

        With a seed each step starts from its own anyway.
        """
        if self._seed is not None:
            return
        if len(sys.modules) != self._modules:
            self._choose()
        for kind in self._chosen:
            read, known = self._watched.get(kind, _UNKNOWN)
            if known is None or read() != known:
                self._renew(kind)

    def _choose(self) -> None:
        """Look at those whose modules are imported."""
        self._modules = len(sys.modules)
        self._chosen = [kind for kind in KINDS if kind.module in sys.modules]

    def _renew(self, kind: _Kind) -> None:
        module = _whole(kind)
        if module is not None:
            kind.seed(module, _entropy())
            read = kind.watch(module)
            self._watched[kind] = read, read()


@contextmanager
def seeded(seed: int, step: str, attempt: int) -> Iterator[None]:
    """For a step in the user's own process: its generators are as they were afterwards."""
    before = [(kind, module, kind.state(module)) for kind, module in _imported()]
    finder = _Finder()
    finder.enter()
    try:
        finder.seed(number_of(seed, step, attempt))
        yield
    finally:
        finder.leave()
        for kind, module, state in before:
            kind.put_back(module, state)
        known = {kind for kind, _, _ in before}
        for kind, module in _imported():
            if kind not in known:  # as if it had been imported just now
                kind.seed(module, _entropy())


class _Finder:
    """Seeds what is imported, and what will be while it is in place, first among the finders."""

    def __init__(self) -> None:
        self._number: int | None = None

    def enter(self) -> None:
        sys.meta_path.insert(0, self)

    def leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def seed(self, number: int) -> None:
        self._number = number
        for kind, module in _imported():
            kind.seed(module, number)

    def find_spec(self, name: str, path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Find one of the modules as others do, so that it is seeded once it is there."""
        kind = next((kind for kind in KINDS if kind.module == name), None)
        if kind is None or self._number is None:
            return None
        number = self._number
        return spec_calling(name, path, lambda module: kind.seed(module, number))
