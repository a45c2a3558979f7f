"""Changes of arguments and results in place, which others do not see: README's Limits."""

from pipedeco import component, pipeline


@component
def start():
    return [1]


@component
def extend(items):
    items.append(2)
    return len(items)


@component
def size(items):
    return len(items)


@pipeline
def main():
    items = [1]
    print("in a step:", extend(items) + 0, "outside:", len(items))
    made = start()
    made.append(5)
    print("in the body:", len(made))
    return size(made)


if __name__ == "__main__":
    print(main())
