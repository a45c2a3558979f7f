# command: python -m doctest -v doctests.py
"""Pipelines in doctests, which is how some people test them.

>>> total(3)
counting 3
5
>>> print(total.__name__, total.__doc__)
total Add squares.
"""

from pipedeco import component, pipeline


@component
def squares(n):
    """
    >>> squares(2)
    counting 2
    [0, 1]
    """
    print("counting", n)
    return [i * i for i in range(n)]


@component
def fail(text):
    """
    >>> fail("x")
    Traceback (most recent call last):
        ...
    LookupError: x
    """
    raise LookupError(text)


@pipeline
def total(n):
    """Add squares."""
    return sum(squares(n))
