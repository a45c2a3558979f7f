"""Generator functions as components and pipelines, and lazy iterators of calls: README's Limits."""

from pipedeco import component, pipeline, value


@component
def double(x):
    return 2 * x


def pairs(n):
    for i in range(n):
        yield double(i)


@pipeline
def as_a_list(n):
    return [x + 1 for x in pairs(n)], list(map(double, range(n)))


@pipeline
def lazy(n):
    value(double(n))
    return map(double, range(n))


@pipeline
def expression(n):
    value(double(n))
    return (double(x) for x in range(n))


def attempt(title, action):
    try:
        print(title, list(action()))
    except Exception as error:
        print(title, type(error).__name__)


def main():
    print(*as_a_list(3))
    attempt("component:", lambda: component(pairs)(3))
    attempt("pipeline:", lambda: pipeline(pairs)(3))
    attempt("map:", lambda: lazy(3))
    attempt("expression:", lambda: expression(3))


if __name__ == "__main__":
    main()
