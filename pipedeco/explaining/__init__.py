"""Why a step was performed, or was not: which part of its key is another one than last time.

    answers.py      what is said of a step
    differing.py    which parts of two keys differ
    arguments.py    previews of recorded arguments, without executing what they are made of
    records.py      what is read from the store

What cannot be told from the records is not guessed.
"""

from pipedeco.explaining.answers import Why, why, why_all
from pipedeco.explaining.differing import Reason

__all__ = ["Reason", "Why", "why", "why_all"]
