"""How environments of packages= are told apart."""

import os
import sys

from pipedeco.requirements import Requirements
from pipedeco.worker import venvs


def test_an_interpreter_is_the_same_by_whatever_path_it_was_started(monkeypatch, tmp_path):
    """A relative path stands in sys.executable with its `..`, and in sys.base_prefix, too."""
    folder, name = os.path.split(sys.executable)
    indirect = os.path.join(folder, "..", os.path.basename(folder), name)
    base = os.path.join(sys.base_prefix, "lib", "..")

    def folder_of_environment():
        return venvs._Maker(str(tmp_path), Requirements((), None), {}, lambda: False).folder

    usual = folder_of_environment()
    monkeypatch.setattr(sys, "executable", indirect)
    monkeypatch.setattr(sys, "base_prefix", base)
    assert folder_of_environment() == usual
