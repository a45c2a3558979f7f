"""Context variables and locals of a decimal context that the caller has set."""

import decimal
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from pipedeco import component, pipeline

user = ContextVar("user", default="nobody")
trail = ContextVar("trail", default=())


@contextmanager
def acting_as(name):
    token = user.set(name)
    try:
        yield
    finally:
        user.reset(token)


def who():
    return user.get()


@component
def greet(greeting):
    return f"{greeting} {who()} {len(trail.get())}"


@component
def nested():
    with acting_as("inner"):
        inside = greet("deep")
    return inside, who()


@pipeline
def main():
    trail.set(("body",))
    print(greet("hello"), *nested())
    with acting_as("body"):
        return str(greet("good day"))


if __name__ == "__main__":
    print(main(), who())
    with acting_as("ada"), decimal.localcontext(prec=3):
        print(main(), copy_context()[user])
