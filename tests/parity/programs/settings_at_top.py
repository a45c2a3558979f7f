"""The same at the top level of a script without a guard, and a function replaced for a test."""

import json
import string
import uuid
from unittest import mock

from pipedeco import component, pipeline

RUN_ID = uuid.uuid4().hex
LIMIT = 3
state = {"seen": 0}


def fetch(key):
    raise OSError(f"no network for {key}")


@component
def lookup(key):
    return fetch(key), LIMIT, RUN_ID, state["seen"]


@component
def dump(value):
    return json.dumps(value), string.capwords("two words")


@pipeline
def main(key):
    text, limit, run, seen = lookup(key)
    print(text, limit, run == RUN_ID, seen)
    return dump({"key": key})[0]


LIMIT = 5
state["seen"] += 1
with mock.patch(f"{__name__}.fetch", lambda key: f"fake {key}"):
    print(main("a"))
state["seen"] += 1
try:
    print(main("b"))
except OSError as error:
    print("refused:", error)
