"""Ten steps from a cold start, in a ProcessPoolExecutor with the start method of the argument."""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def square(x: int) -> int:
    """Do next to nothing."""
    return x * x


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context(sys.argv[1])) as pool:
        futures = [pool.submit(square, i) for i in range(10)]
        assert sum(future.result() for future in futures) == 285
