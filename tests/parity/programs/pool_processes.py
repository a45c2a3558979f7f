"""Steps that use multiprocessing and concurrent.futures, also one that lives in a global."""

import concurrent.futures
import multiprocessing as mp
import os

from pipedeco import component, pipeline

KEPT = {}


def square(x):
    return x * x


def pool_of(kind):
    if kind not in KEPT:
        KEPT[kind] = mp.get_context(kind).Pool(1)
    return KEPT[kind]


def child(connection, n):
    connection.send((n, os.getppid() > 0))
    connection.close()


@component
def by_pool(xs):
    with mp.Pool(2) as pool:
        return pool.map(square, xs)


@component
def by_executor(xs):
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        return list(pool.map(square, xs))


@component
def by_kept(xs):
    return pool_of("fork").map_async(square, xs).get(timeout=3)


@component
def by_forkserver(n):
    context = mp.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, n))
    process.start()
    answer = ours.recv()
    process.join()
    return answer, process.exitcode


@pipeline
def main(xs):
    for step in (by_pool, by_executor, by_kept):
        for _ in range(2):
            print(step.__name__, sum(step(xs)))
    return [by_forkserver(n)[0] for n in (1, 2)]


if __name__ == "__main__":
    print(main([1, 2, 3]))
    for pool in KEPT.values():
        pool.terminate()
        pool.join()
