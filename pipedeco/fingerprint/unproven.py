"""What a fingerprint says when equality cannot be proven."""

from __future__ import annotations


class Unproven(Exception):
    """Nothing proves that this value or code is the same the next time; the message says why.

    Args:
        message: A phrase about the thing itself, such as "a socket, whose content cannot be
            compared".
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
