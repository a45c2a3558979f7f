"""Keeping a store: hide, remove and prune runs, check what is there, carry runs elsewhere.

    removal.py    archive, unarchive, remove, prune: rows go in one transaction, files after it
    garbage.py    files that nothing refers to any more, and when it is safe to delete them
    soundness.py  check, repair
    entries.py    what the cache knows, and making it forget
    packing.py    a run as a zip file
    unpacking.py  such a file as a run of this store
    access.py     transactions, and which controllers live

Only runs that have ended, or whose controller died, are changed.  Files are deleted after the
commit: a crash leaves garbage, which the next removal finds, and never a record without its blob.
"""

from pipedeco.housekeeping.packing import export
from pipedeco.housekeeping.removal import Pruned, archive, prune, remove, unarchive
from pipedeco.housekeeping.soundness import Finding, check, repair
from pipedeco.housekeeping.unpacking import import_run

__all__ = [
    "Finding",
    "Pruned",
    "archive",
    "check",
    "export",
    "import_run",
    "prune",
    "remove",
    "repair",
    "unarchive",
]
