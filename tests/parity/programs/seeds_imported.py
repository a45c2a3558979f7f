"""Functions of hidden generators that are imported by name, with `seed=` and with a cache."""

from random import choice, gauss, seed, shuffle

from numpy.random import default_rng, permutation, randn

from pipedeco import component, pipeline

GENERATOR = default_rng(3)


@component
def shuffled(n):
    items = list(range(n))
    shuffle(items)
    return items


@component(cache=True)
def drawn(n):
    seed(n)
    return choice("abcdef"), round(gauss(0, 1), 6)


@component
def noise(n):
    return abs(randn(n)).shape, sorted(permutation(n).tolist())


@component
def own(n):
    return GENERATOR.bit_generator.state["bit_generator"], default_rng(n).integers(100, size=3)


@pipeline(seed=7)
def main():
    items = shuffled(6)
    print(sorted(items), drawn(1) == drawn(1), *noise(3))
    return drawn(2), own(5)


if __name__ == "__main__":
    print(main())
    print(main())
