"""500 hits of joblib.Memory in a process that has just begun: prints the seconds that they take."""

import sys
import time

from joblib import Memory

COUNT = 500
memory = Memory(sys.argv[1], verbose=0)


@memory.cache
def square(x: int) -> int:
    """Do next to nothing."""
    return x * x


square(0)
start = time.perf_counter()
for i in range(COUNT):
    square(i)
print(time.perf_counter() - start)
