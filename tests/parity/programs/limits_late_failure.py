"""A failure that the body does not read, but returns: README's Limits."""

from pipedeco import component, pipeline


@component
def parse(text):
    return int(text)


@pipeline
def main():
    return parse("one")


if __name__ == "__main__":
    main()
