"""A step that returns another number of outputs than it declares, of which nothing is read: README's Limits."""

from pipedeco import component, pipeline


@component(outputs=2)
def three():
    return 1, 2, 3


@pipeline
def main():
    try:
        _one, _two = three()
    except ValueError as error:
        return str(error)[:25]
    return "unpacked"


if __name__ == "__main__":
    print(main())
