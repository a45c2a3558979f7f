"""Random numbers: seeded globals in each step, generators of one's own, and a seeded shuffle."""

import random

import numpy as np

from pipedeco import component, pipeline


@component
def sample(seed):
    random.seed(seed)
    np.random.seed(seed)
    return random.random() + np.random.rand()


@component
def own(seed):
    rng, other = np.random.default_rng(seed), random.Random(seed)
    return round(float(rng.normal()) + other.gauss(0, 1), 9)


@component
def given(rng):
    return int(rng.integers(1000))


@component
def folds(n, seed):
    numbers = list(range(n))
    random.Random(seed).shuffle(numbers)
    return numbers[: n // 2], numbers[n // 2 :]


@pipeline
def main():
    one, other = folds(10, seed=3)
    children = np.random.SeedSequence(42).spawn(2)
    drawn = [given(np.random.default_rng(child)) for child in children]
    return f"{sample(1):.6f} {sample(2):.6f}", own(5), drawn[0] + drawn[1], sum(one) - sum(other)


print(*main())
print(random.Random(1).random() == random.Random(1).random())
