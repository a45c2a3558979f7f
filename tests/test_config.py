"""Where settings come from, and when a debugger counts as attached."""

import bdb
import os
import sys
import types

import pytest

from pipedeco import ConfigError, config, configure


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A project of its own, and no setting from around the tests."""
    for name in ("MODE", "WORKERS", "STORE", "START_METHOD"):
        monkeypatch.delenv(f"PIPEDECO_{name}", raising=False)
    monkeypatch.setattr(config, "SETTINGS", config.Settings())
    monkeypatch.setattr(config, "debugger_attached", lambda: False)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(folder, text):
    (folder / "pyproject.toml").write_text(f"[tool.pipedeco]\n{text}\n")


# -- the mode ------------------------------------------------------------------------------


def test_the_mode_is_local_where_nobody_says_otherwise(project):
    """A project without a table of ours says nothing."""
    assert config.find_mode(None) == "local"
    (project / "pyproject.toml").write_text("[project]\nname = 'pipedeco-user'\n")
    assert config.find_mode(None) == "local"


def test_precedence_of_modes(project, monkeypatch):
    """Asked > configure() > PIPEDECO_MODE > debugger > pyproject.toml > local."""
    write(project, 'mode = "debug"')
    assert config.find_mode(None) == "debug"
    write(project, 'mode = "local"')
    assert config.find_mode(None) == "local"
    monkeypatch.setattr(config, "debugger_attached", lambda: True)
    assert config.find_mode(None) == "debug"
    monkeypatch.setenv("PIPEDECO_MODE", "local")
    assert config.find_mode(None) == "local"
    configure(mode="debug")
    assert config.find_mode(None) == "debug"
    assert config.find_mode("local") == "local"
    configure(mode=None)
    assert config.find_mode(None) == "local"


@pytest.mark.parametrize("source", ["PIPEDECO_MODE", "[tool.pipedeco] mode"])
def test_a_wrong_mode_is_refused_with_its_source(project, monkeypatch, source):
    """The sentence says where the wrong word stands."""
    if source == "PIPEDECO_MODE":
        monkeypatch.setenv(source, "fast")
    else:
        write(project, 'mode = "fast"')
    with pytest.raises(ConfigError) as caught:
        config.find_mode(None)
    assert str(caught.value).startswith(f"{source}: mode is one of ")


def test_a_key_that_nobody_reads(project):
    """A slip of the pen would go unnoticed otherwise."""
    write(project, "blob = 'file:///mnt'")
    with pytest.raises(ConfigError, match=r"a key 'blob', which nobody reads \(did you mean blobs"):
        config.find_blobs()
    (project / "pyproject.toml").write_text("[tool]\npipedeco = 3\n")
    with pytest.raises(ConfigError, match="pipedeco is a table"):
        config.find_workers(None)


def test_a_broken_pyproject_is_told_by_its_path(project):
    """A file that is no TOML is named."""
    write(project, "mode = ")
    with pytest.raises(ConfigError, match=rf"{project}/pyproject.toml cannot be read"):
        config.find_mode(None)


# -- workers, start method, store ----------------------------------------------------------


def test_precedence_of_workers(project, monkeypatch):
    """Asked > configure() > PIPEDECO_WORKERS > pyproject.toml > the CPUs of this process."""
    assert config.find_workers(None) == len(os.sched_getaffinity(0))
    write(project, "workers = 3")
    assert config.find_workers(None) == 3
    monkeypatch.setenv("PIPEDECO_WORKERS", "4")
    assert config.find_workers(None) == 4
    configure(workers=5)
    assert config.find_workers(None) == 5
    assert config.find_workers(6) == 6


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5"])
def test_wrong_workers_are_refused(monkeypatch, wrong):
    """The variable is named."""
    monkeypatch.setenv("PIPEDECO_WORKERS", wrong)
    with pytest.raises(ConfigError, match="PIPEDECO_WORKERS"):
        config.find_workers(None)


def test_the_start_method(monkeypatch):
    """The nursery on Linux, spawn elsewhere; the nursery is refused where it cannot be."""
    assert config.find_start_method(None) == "nursery"
    assert config.find_start_method("spawn") == "spawn"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert config.find_start_method(None) == "spawn"
    with pytest.raises(ConfigError, match="start_method='spawn'"):
        config.find_start_method("nursery")


def test_precedence_of_start_methods(monkeypatch):
    """Asked > configure() > PIPEDECO_START_METHOD > the platform's best."""
    monkeypatch.setenv("PIPEDECO_START_METHOD", "spawn")
    assert config.find_start_method(None) == "spawn"
    configure(start_method="nursery")
    assert config.find_start_method(None) == "nursery"
    assert config.find_start_method("spawn") == "spawn"
    configure(start_method=None)
    monkeypatch.setenv("PIPEDECO_START_METHOD", "fork")
    with pytest.raises(ConfigError, match="PIPEDECO_START_METHOD: start_method is one of"):
        config.find_start_method(None)


def test_a_start_method_of_the_project(project, monkeypatch):
    """What anybody else says comes before it."""
    write(project, 'start_method = "spawn"')
    assert config.find_start_method(None) == "spawn"
    assert config.find_start_method("nursery") == "nursery"
    configure(start_method="nursery")
    assert config.find_start_method(None) == "nursery"
    configure(start_method=None)
    monkeypatch.setenv("PIPEDECO_START_METHOD", "nursery")
    assert config.find_start_method(None) == "nursery"


@pytest.mark.parametrize("folder", ["runs", "./runs", "a/../runs"])
def test_a_store_of_the_project(project, monkeypatch, folder):
    """It is relative to the project's folder, and comes after what anybody else says."""
    write(project, f'store = "{folder}"')
    below = project / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert config.find_store() == str(project / "runs")
    monkeypatch.setenv("PIPEDECO_STORE", "one")
    assert config.find_store() == str(below / "one")
    configure(store="two")
    assert config.find_store() == str(below / "two")
    assert config.find_store("three") == str(below / "three")


def test_a_store_of_the_project_that_is_elsewhere(project, monkeypatch, tmp_path):
    write(project, f"store = {str(tmp_path / 'runs')!r}")
    assert config.find_store() == str(tmp_path / "runs")
    monkeypatch.setenv("HOME", "/home/user")
    write(project, "store = '~/runs'")
    assert config.find_store() == "/home/user/runs"


@pytest.mark.parametrize(
    ("line", "find"),
    [
        ("store = 3", config.find_store),
        ("store = ''", config.find_store),
        ("store = 's3://bucket/team'", config.find_store),
        ("start_method = 'fork'", lambda: config.find_start_method(None)),
        ("start_method = 3", lambda: config.find_start_method(None)),
        ("workers = 0", lambda: config.find_workers(None)),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_its_file(project, line, find):
    write(project, line)
    with pytest.raises(ConfigError) as caught:
        find()
    assert str(caught.value).startswith(f"[tool.pipedeco] {line.split()[0]}: ")
    assert str(caught.value).endswith(f"(in {project / 'pyproject.toml'})")


def test_a_changed_project_file_counts(project):
    write(project, "store = 'one'")
    assert config.find_store() == str(project / "one")
    write(project, "store = 'two'")
    assert config.find_store() == str(project / "two")


@pytest.mark.parametrize("landmark", ["pyproject.toml", ".git"])
def test_the_store_stands_beside_the_nearest_project_file(project, monkeypatch, landmark):
    """The nearest pyproject.toml or .git upwards of the working directory decides."""
    (project / landmark).mkdir()  # a folder does for both
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert config.find_store() == str(project / ".pipedeco")


def test_precedence_of_stores(project, monkeypatch):
    """Asked > configure() > PIPEDECO_STORE > the project; always an absolute path."""
    write(project, "")
    monkeypatch.setenv("PIPEDECO_STORE", "one")
    assert config.find_store() == str(project / "one")
    configure(store=project / "two")
    assert config.find_store() == str(project / "two")
    assert config.find_store("three") == str(project / "three")
    monkeypatch.setenv("HOME", "/home/user")
    assert config.find_store("~/four") == "/home/user/four"


def test_an_address_is_no_store_yet():
    """A URL is refused with the sentence that a store is a folder."""
    with pytest.raises(ConfigError, match="a store is a folder"):
        config.find_store("postgresql://host/db")


@pytest.mark.parametrize(
    "wrong", [{"mode": "fast"}, {"workers": 0}, {"start_method": "fork"}, {"folder": "x"}], ids=str
)
def test_configure_refuses_what_cannot_be(wrong):
    """The setting is named, and nothing is set."""
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        configure(**wrong)
    assert getattr(config.SETTINGS, name, None) is None


def test_configure_sets_all_or_nothing():
    """A call with one wrong setting changes none."""
    with pytest.raises(ConfigError):
        configure(mode="debug", workers=0)
    assert config.SETTINGS.mode is None


# -- debuggers -----------------------------------------------------------------------------

attached = config.debugger_attached


@pytest.fixture
def alone(monkeypatch):
    """No debugger and no tracer but those of the test."""
    for name in ("debugpy", "pydevd"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = sys.gettrace()
    sys.settrace(None)
    yield monkeypatch
    sys.settrace(before)


@pytest.mark.parametrize("connected", [True, False])
def test_debugpy_counts_with_a_client(alone, connected):
    """An idle debugpy, as in every ipykernel, is no debugger."""
    module = types.SimpleNamespace(is_client_connected=lambda: connected)
    alone.setitem(sys.modules, "debugpy", module)
    assert attached() is connected


@pytest.mark.parametrize(
    ("debugger", "counts"),
    [
        (None, False),
        (types.SimpleNamespace(_finish_debugging_session=False), True),
        (types.SimpleNamespace(_finish_debugging_session=True), False),
    ],
)
def test_pydevd_counts_while_it_lives(alone, debugger, counts):
    """PyCharm's debugger counts until its session has ended."""
    module = types.SimpleNamespace(get_global_debugger=lambda: debugger)
    alone.setitem(sys.modules, "pydevd", module)
    assert attached() is counts


def test_a_bdb_tracer_counts(alone):
    """pdb and what else is built on bdb is a debugger."""
    assert not attached()
    debugger = bdb.Bdb()
    debugger.reset()
    sys.settrace(debugger.trace_dispatch)
    found = attached()
    sys.settrace(None)
    assert found


def test_a_bdb_tracer_counts_beside_an_idle_debugpy(alone):
    """pdb in a notebook, whose kernel has loaded debugpy, is a debugger all the same."""
    alone.setitem(sys.modules, "debugpy", types.SimpleNamespace(is_client_connected=lambda: False))
    debugger = bdb.Bdb()
    debugger.reset()
    sys.settrace(debugger.trace_dispatch)
    found = attached()
    sys.settrace(None)
    assert found


def test_a_coverage_tracer_does_not_count(alone):
    """A tracer that is a plain function or an object of another kind is no debugger."""

    class Collector:
        def trace(self, frame, event, argument):
            return None

    sys.settrace(Collector().trace)
    found = attached()
    sys.settrace(None)
    assert not found


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="sys.monitoring is new in Python 3.12")
def test_the_debugger_of_sys_monitoring_counts(alone):
    """From 3.12 a debugger may use sys.monitoring; coverage's tool id is another."""
    monitoring = sys.monitoring
    for tool, counts in ((monitoring.COVERAGE_ID, False), (monitoring.DEBUGGER_ID, True)):
        taken = monitoring.get_tool(tool)
        if taken is None:
            monitoring.use_tool_id(tool, "test")
        try:
            assert attached() is counts
        finally:
            if taken is None:
                monitoring.free_tool_id(tool)
