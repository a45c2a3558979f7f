"""One seed at the top of the program, as in many notebooks: each run gives the same numbers."""

import random

import numpy as np

from pipedeco import component, pipeline

random.seed(7)
np.random.seed(7)


@component
def noise(n):
    return [round(random.random(), 6) for _ in range(n)]


@component
def weights(n):
    return np.random.rand(n).round(6).tolist()


@pipeline
def main():
    first, second = noise(2), noise(2)
    third, fourth = weights(2), weights(1)
    return first[0], second[1], third[0], fourth[0]


if __name__ == "__main__":
    print(*main())
