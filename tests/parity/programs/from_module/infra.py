"""Objects that a project makes once and imports everywhere."""

import logging
import sqlite3
import threading
from contextvars import ContextVar

log = logging.getLogger("infra")


class Engine:
    """As an engine of SQLAlchemy: a lock, a connection and a registry."""

    def __init__(self, url):
        self.url = url
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(url, check_same_thread=False)

    def scalar(self, query):
        with self._lock:
            return self._connection.execute(query).fetchone()[0]


class Registry(dict):
    def register(self, name):
        def decorate(fn):
            self[name] = fn
            return fn

        return decorate


engine = Engine(":memory:")
registry = Registry()
request = ContextVar("request", default="none")
MISSING = object()
