"""Steps with several outputs, which the body takes apart: right, starred, nested, and wrong."""

from typing import NamedTuple

from pipedeco import component, pipeline, value


class Split(NamedTuple):
    train: list
    test: list


@component(outputs=2)
def halves(items):
    middle = len(items) // 2
    return items[:middle], items[middle:]


@component(outputs=("low", "high"))
def limits(items):
    return [min(items), max(items)]


@component
def split(items) -> Split:
    return Split(items[:-1], items[-1:])


@component
def pair(items) -> tuple[int, tuple[int, int]]:
    return items[0], (items[1], items[2])


@component(outputs=2)
def some(items):
    return items


@component
def add(*numbers):
    return sum(numbers)


def attempt(items):
    try:
        a, b = some(items)
        print("two:", value(a), value(b))
    except (TypeError, ValueError) as error:
        print(type(error).__name__, str(error).partition(", got 3")[0].rstrip(")"))


@pipeline
def main():
    left, right = halves([1, 2, 3])
    low, high = limits(right)
    train, test = split([4, 5, 6])
    one, (two, three) = pair([7, 8, 9])
    first, *rest = halves("abcd")
    print(len(left), len(right), first + "", *[r + "" for r in rest])
    print(add(low, high, one, two, three) + 0, add(*train, *test) + 0)
    for items in ((1, 2), "ab", {"x": 1, "y": 2}, range(2), [1, 2, 3], (1,), [], "xyz", 7, None):
        attempt(items)
    return dict(zip(("train", "test"), split([1, 2]), strict=True))


if __name__ == "__main__":
    print(main())
