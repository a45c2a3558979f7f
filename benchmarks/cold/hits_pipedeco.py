"""500 hits in a process that has just begun: prints the seconds that they take.

The first process fills the cache.  The clock starts once the process has made one run of one hit,
so that imports, the store and the workers are there.
"""

import sys
import time

from pipedeco import component, pipeline

COUNT = 500


@component(cache=True)
def square(x: int) -> int:
    """Do next to nothing."""
    return x * x


@pipeline
def squares(count: int) -> int:
    """Run the steps side by side."""
    results = [square(i) for i in range(count)]
    return len(results)


run = getattr(squares.with_options(workers=2), sys.argv[1])
run(1)
start = time.perf_counter()
run(COUNT)
print(time.perf_counter() - start)
