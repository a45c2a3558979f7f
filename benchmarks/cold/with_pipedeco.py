"""Ten steps from a cold start: two decorators, no main guard."""

from pipedeco import component, pipeline


@component
def square(x: int) -> int:
    """Do next to nothing."""
    return x * x


@pipeline
def ten() -> int:
    """Run ten steps side by side, and read them."""
    squares = [square(i) for i in range(10)]
    return sum(squares)


assert ten.with_options(workers=2)() == 285
