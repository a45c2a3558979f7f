"""Exceptions of one's own with causes, contexts, notes and attributes; the last one is not caught."""

from pipedeco import component, pipeline, value


class AppError(Exception):
    """The base of this program's errors."""


class BadRecord(AppError):
    def __init__(self, line, *, reason):
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class Unreachable(AppError, ConnectionError):
    retries = 0


class Rejected(AppError):
    def __init__(self, code):
        self.code = code

    def __str__(self):
        return f"rejected with {self.code}"


def parse(line, text):
    try:
        return int(text)
    except ValueError as error:
        error.add_note(f"while reading {text!r}")
        raise BadRecord(line, reason="not a number") from error


@component
def read(line, text):
    return parse(line, text)


@component
def connect(host):
    try:
        {}[host]
    except KeyError:
        error = Unreachable(f"{host} is not known")
        error.retries = 3
        raise error  # noqa: B904


@component
def send(n):
    try:
        raise OSError(5, "no route")
    except OSError:
        raise Rejected(n) from None


@component
def checked(n):
    assert n > 0, f"{n} is not positive"
    return n


@pipeline
def main():
    total = read(1, "1") + 0
    try:
        total += read(2, "two")
    except BadRecord as error:
        print(error, error.line, error.reason, repr(error.__cause__), error.__cause__.__notes__)
    try:
        value(connect("db"))
    except ConnectionError as error:
        print(
            type(error).__name__,
            error.retries,
            isinstance(error, AppError),
            repr(error.__context__),
        )
    try:
        value(send(404))
    except Rejected as error:
        print(error, error.code, error.__suppress_context__, error.__context__)
    try:
        value(checked(-total))
    except AssertionError as error:
        print("assertion:", error)
    return read(3, "drei") + 0


if __name__ == "__main__":
    print(main())
