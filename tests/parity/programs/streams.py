"""All the ways to write: print, write, buffers, descriptors, bytes, without newline, and in threads."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from pipedeco import component, pipeline, value


@component
def mixed(name):
    print(name, "to stdout")
    print(name, "to stderr", file=sys.stderr)
    sys.stdout.write(f"{name} by write\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{name} as bytes é\n".encode())
    sys.stdout.buffer.flush()
    os.write(1, f"{name} by descriptor\n".encode())
    print("no newline at the end of", name, end="", file=sys.stderr)
    print(file=sys.stderr)
    print("a\tb\r\nc\x1b[31m red \x1b[0m", repr(sys.stdout.encoding), sys.stdout.isatty())
    return name


@component
def threads(n):
    def say(i):
        print(f"thread {i} of {n}\n", end="")
        sys.stderr.write(f"thread {i} warns\n")

    started = [threading.Thread(target=say, args=(i,)) for i in range(n)]
    for thread in started:
        thread.start()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(say, range(n, n + 2)))
    for thread in started:
        thread.join()
    return n


@component
def broken(n):
    def fail():
        raise ValueError(f"in a thread {n}")

    thread = threading.Thread(target=fail, name="failing")
    thread.start()
    thread.join()
    print("\n\nempty lines before, none after", end="\n\n")
    return n


@component
def ask(question):
    try:
        return input(question)
    except EOFError:
        return f"no answer, {sys.stdin.read()!r}"


@pipeline
def main():
    names = [value(mixed(name)) for name in ("one", "two")]
    print(ask("name? "))
    return len(names), threads(3) + 0, broken(1) + 0


if __name__ == "__main__":
    result = main()
    print()
    print(*result)
