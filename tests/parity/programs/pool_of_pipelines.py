"""Pipelines that are called in a process pool and in threads of the program."""

import multiprocessing as mp
import sys
from concurrent.futures import ThreadPoolExecutor

from pipedeco import component, pipeline


@component
def power(x, n):
    print(f"{x} to the {n}")
    return x**n


@pipeline
def powers(x):
    return sum(power(x, n) for n in range(3))


def main():
    with ThreadPoolExecutor(2) as pool:
        print(*pool.map(powers, (2, 3)))
    for kind in ("fork", "spawn"):
        if kind == "fork" and "threading" not in sys.modules:
            continue
        with mp.get_context(kind).Pool(1) as pool:
            print(kind, *pool.map(powers, [4]))
            pool.close()
            pool.join()


if __name__ == "__main__":
    main()
