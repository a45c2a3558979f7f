"""Ten steps from a cold start, by joblib."""

from joblib import Parallel, delayed


def square(x: int) -> int:
    """Do next to nothing."""
    return x * x


assert sum(Parallel(n_jobs=2)(delayed(square)(i) for i in range(10))) == 285
