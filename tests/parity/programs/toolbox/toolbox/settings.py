"""Settings of the project, made once."""

from functools import cache
from typing import NamedTuple


class Settings(NamedTuple):
    factor: int = 10


@cache
def current():
    return Settings()
