"""Programs that steps start: captured, inherited, in a shell, and left to run."""

import os
import subprocess
import sys

from pipedeco import component, pipeline, value

SCRIPT = (
    "import os, sys; print('child', os.environ['STAGE'], *sys.argv[1:]); sys.exit(int(sys.argv[1]))"
)


@component
def captured(code):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(code)], capture_output=True, text=True)
    return done.returncode, done.stdout.strip()


@component
def inherited(words):
    print("before", flush=True)
    subprocess.run(["sh", "-c", f"echo {words}; echo {words} to stderr >&2"], check=True)
    os.system(f"echo by system {words}")
    print("after")
    return len(words)


@component
def checked(code):
    subprocess.run([sys.executable, "-c", SCRIPT, str(code)], check=True, capture_output=True)


@component
def piped(text):
    with subprocess.Popen(
        ["tr", "a-z", "A-Z"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tr:
        return tr.communicate(text.encode())[0].decode()


@pipeline
def main():
    os.environ["STAGE"] = "test"
    print(*captured(0), *captured(3))
    inherited("some words")
    try:
        value(checked(7))
    except subprocess.CalledProcessError as error:
        print(f"failed with {error.returncode} {error.stdout!r}")
    return piped("loud")


if __name__ == "__main__":
    print(main())
