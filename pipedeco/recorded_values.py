"""The recorded values of two runs side by side; what is looked at has limits for all of them."""

from __future__ import annotations

import ast
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

from pipedeco.contrast import Contrast, contrast
from pipedeco.errors import BlobCorrupt, ConfigError, PipedecoError, StoreError
from pipedeco.main_file import MAIN
from pipedeco.records import load
from pipedeco.text import data_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipedeco.run import Run

MANY = 20  # values that are looked at
SECONDS = 20.0  # for all of them
LARGEST = 4_000_000_000  # bytes of a value that is loaded


class RecordedValues:
    """Loads and compares; as a context manager it leaves `__main__` and the import path alone.

    Parameters
    ----------
    left, right: the runs.  Where a value needs a class of a run's script, that is loaded for its
        definitions, as `rerun` does.

    Attributes: `skipped` (how many values were not looked at).
    """

    def __init__(self, left: Run, right: Run) -> None:
        self.skipped = 0
        self._runs = left, right
        self._scripts: set[str] = set()  # ids of runs whose script was asked for
        self._looked = 0
        self._deadline = time.monotonic() + SECONDS
        self._saved = sys.modules[MAIN], sys.argv, list(sys.path)

    def __enter__(self) -> RecordedValues:
        return self

    def __exit__(self, *_: object) -> None:
        sys.modules[MAIN], sys.argv, sys.path[:] = self._saved

    def contrast(
        self, left: Any, right: Any, take: Callable[[Any], Any] = lambda value: value
    ) -> Contrast:
        """How two stored values differ.

        Parameters
        ----------
        left, right: bytes, or the digest of a blob.
        take: what of a loaded value is compared.
        """
        if self._looked >= MANY or time.monotonic() > self._deadline:
            self.skipped += 1
            return Contrast([], equal=False)
        self._looked += 1
        try:
            values = [
                take(self._load(run, packed))
                for run, packed in zip(self._runs, (left, right), strict=True)
            ]
        except PipedecoError as error:
            return Contrast([f"not compared: {error}"], equal=False)
        return contrast(*values)

    def _load(self, run: Run, packed: Any) -> Any:
        """Raises StoreError and BlobCorrupt."""
        size = run.blobs.size(packed) if isinstance(packed, str) else len(packed)
        if size > LARGEST:
            raise StoreError(f"its {data_size(size)} are too much to be loaded for that")
        try:
            return load(packed, run.blobs, "it")
        except BlobCorrupt:
            raise
        except StoreError:
            if run.id in self._scripts or not self._load_script(run):
                raise
            return load(packed, run.blobs, "it")

    def _load_script(self, run: Run) -> bool:
        """Whether the definitions of its script are here now."""
        self._scripts.add(run.id)
        with contextlib.redirect_stdout(sys.stderr):  # --json is on stdout
            try:
                run.find_pipeline()
            except ConfigError:
                return False
        return True


def tells_all(preview: str | None) -> bool:
    """Whether a preview is the whole value: a number, a short text or list."""
    if preview is None:
        return True
    try:
        ast.literal_eval(preview)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return preview in ("nan", "inf", "-inf")
    return True
