"""MemoryError of steps, of values that cannot be written for want of memory, and others like it."""

from pipedeco import component, pipeline, value


class Huge:
    """Needs more memory than there is when it is copied."""

    def __init__(self, size):
        self.size = size

    def __reduce__(self):
        raise MemoryError("cannot allocate")


@component
def allocate(n):
    return len(bytearray(n))


@component
def fits(n):
    return Huge(n).size


@component
def takes(huge):
    return huge.size


@component
def gives(n):
    return Huge(n)


@pipeline
def main():
    try:
        value(allocate(2**62))
    except MemoryError as error:
        print("allocate:", type(error).__name__)
    print(fits(3) + 0)
    return allocate(2**10)


@pipeline
def argument():
    try:
        return value(takes(Huge(1)))
    except MemoryError:
        return "MemoryError"


@pipeline
def result():
    try:
        return value(gives(1)).size
    except MemoryError:
        return "MemoryError"


if __name__ == "__main__":
    print(main(), argument(), result())
