"""Steps that ask for packages of their own; their environments have nothing that tests import."""

import os
import sys

from pipedeco import component


def greeting():
    """The version of the package that the tests make, where it is there."""
    try:
        import pipedeco_greeting
    except ImportError:
        return None
    return pipedeco_greeting.VERSION


@component
def plain():
    return greeting()


@component(packages=["pipedeco-greeting==1.0"])
def first(*_):
    return greeting()


@component(packages=["pipedeco_greeting==2.0"])
def second(*_):
    return greeting()


@component
def both(a, b):
    return a, b


@component(packages=["pipedeco-greeting==1.0"], cache=True)
def cached():
    return greeting()


@component
def where():
    return os.getpid(), sys.version_info[:2], sys.path


@component(packages=["pipedeco-greeting==1.0"])
def foreign():
    import pipedeco_greeting

    return pipedeco_greeting.Greeting()


@component(packages=["pipedeco-greeting==1.0"])
def raises():
    import pipedeco_greeting

    raise pipedeco_greeting.GreetingError("rude")


@component(packages=["pipedeco-greeting==1.0"])
def call(fn):
    return fn()


@component(packages=["pipedeco-greeting==9.0"])
def impossible():
    return greeting()


@component
def makes_code():
    return lambda: 1
