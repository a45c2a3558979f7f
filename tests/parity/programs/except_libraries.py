"""Exceptions in the manner of libraries, whose classes do not pickle, in the `except` of a body."""

import argparse
import configparser
import http.client
import threading
import urllib.error
from dataclasses import dataclass, field

from pipedeco import component, pipeline, value


class RequestError(OSError):
    """As of requests: keeps the request and the response, which hold a lock."""

    def __init__(self, *args, response=None):
        super().__init__(*args)
        self.response = response
        self.lock = threading.Lock()


class ConnectError(RequestError, ConnectionError):
    pass


class TemplateError(Exception):
    """As of jinja2: takes what it does not hand on."""

    def __init__(self, message, lineno, name=None):
        super().__init__(message)
        self.lineno = lineno
        self.name = name
        self.source = (line for line in ())


class RetryError(Exception):
    """As of tenacity: its argument is a future."""

    def __init__(self, last):
        self.last = last
        super().__init__(last)


@dataclass(slots=True)
class ParseError(Exception):
    """As of attrs: its attributes are slots."""

    line: int
    rest: list = field(default_factory=list)


@dataclass(frozen=True)
class Refused(Exception):
    """Forbids to set attributes, those of Python's own exceptions among them."""

    code: int


def client_errors():
    """As of botocore: classes that are made as a program runs."""

    class ClientError(Exception):
        def __init__(self, response, operation):
            super().__init__(f"{response['Code']} in {operation}")
            self.response = response

    return ClientError, type("NoSuchKey", (ClientError, LookupError), {})


ClientError, NoSuchKey = client_errors()


def raise_(error):
    raise error


def parse():
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--n", type=int)
    return parser.parse_args(["--n", "x"])


KINDS = {
    "connect": lambda: raise_(ConnectError(111, "refused", response={"status": 503})),
    "template": lambda: raise_(TemplateError("unexpected '}'", 3, name="page.html")),
    "retry": lambda: raise_(RetryError(threading.Event())),
    "client": lambda: raise_(NoSuchKey({"Code": "404"}, "GetObject")),
    "slots": lambda: raise_(ParseError(3, ["x"])),
    "frozen": lambda: raise_(Refused(7)),
    "argparse": parse,
    "config": lambda: configparser.ConfigParser().read_string("no section"),
    "http": lambda: raise_(http.client.IncompleteRead(b"abc", 5)),
    "url": lambda: raise_(urllib.error.HTTPError("http://x", 404, "Not Found", None, None)),
    "group": lambda: raise_(ExceptionGroup("g", [TemplateError("t", 1), ConnectError(1, "c")])),
    "caused": lambda: chained(),
}


def chained():
    try:
        raise TemplateError("inner", 2)
    except TemplateError as error:
        raise RuntimeError("outer") from error


@component
def fail(kind):
    return KINDS[kind]()


@component
def recovered(kind):
    try:
        return KINDS[kind]()
    except Exception as error:
        return type(error).__name__


@pipeline
def main():
    for kind in KINDS:
        try:
            value(fail(kind))
        except (ConnectionError, LookupError) as error:
            print(kind, "known:", error, getattr(error, "response", None))
        except (ParseError, Refused) as error:
            facts = [getattr(error, name, None) for name in ("line", "rest", "code")]
            print(kind, type(error).__name__, facts, error.args, error)
        except argparse.ArgumentError as error:
            print(kind, "usage:", error.argument_name, error.message)
        except (configparser.Error, http.client.HTTPException, urllib.error.HTTPError) as error:
            print(kind, "module:", type(error).__name__, error, getattr(error, "code", None))
        except TemplateError as error:
            print(kind, error.name, error.lineno, error.args)
        except ExceptionGroup as group:
            mine, others = group.split(OSError)
            print(kind, group.message, repr(mine.exceptions[0]), others.exceptions[0].args)
        except RuntimeError as error:
            print(kind, error, isinstance(error.__cause__, Exception), error.__cause__.args)
        except Exception as error:
            print(kind, "other:", isinstance(error, RetryError), len(error.args))
        print(recovered(kind) + "")


if __name__ == "__main__":
    main()
