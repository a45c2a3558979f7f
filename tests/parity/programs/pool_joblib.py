"""Normalise rows in two jobs with joblib, in several steps and in the body."""

import numpy as np
from joblib import Parallel, delayed

from pipedeco import component, pipeline


def norm(row):
    return float(np.round(np.abs(row).sum(), 6))


@component
def load(n):
    return np.random.default_rng(0).normal(size=(n, 4))


@component
def norms(data):
    return sum(Parallel(n_jobs=2)(delayed(norm)(row) for row in data))


@component
def large(n):
    data = np.ones((n, 1000))  # joblib maps what is larger than 1 MB
    return sum(Parallel(n_jobs=2, max_nbytes="10K")(delayed(np.sum)(data) for _ in range(2)))


@pipeline
def main():
    data = load(6)
    return norms(data) + 0, norms(data) + 0, large(20) + 0


if __name__ == "__main__":
    one, two, total = main()
    print(f"{one:.4f}", one == two, total)
