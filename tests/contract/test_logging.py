"""What the program has set up in `logging` holds in its steps: the same records in every mode."""

import io
import logging
import logging.handlers
import os
import queue
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
from rich.console import Console
from rich.logging import RichHandler

import pipedeco
from pipedeco import component, get_logger, get_run, pipeline, value

in_workers = pytest.mark.parametrize("mode", ["local", "remote"], indirect=True)


class Keeping(logging.Handler):
    """Keeps records, and what no pickler carries."""

    def __init__(self, level=logging.NOTSET):
        super().__init__(level)
        self.records = []
        self.busy = threading.Event()

    def emit(self, record):
        self.records.append(record)

    @property
    def messages(self):
        return [record.getMessage() for record in self.records]


class Shouting(logging.Formatter):
    """A formatter of the program's own."""

    def format(self, record):
        return f"<{super().format(record).upper()}>"


class Without:
    """A filter that lets no message with a word pass, and marks the others."""

    def __init__(self, word):
        self.word = word

    def filter(self, record):
        record.mark = "seen"
        return self.word not in record.getMessage()


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch):
    """Undo what a test sets up: every logger is as it was, and new ones are as they are made."""
    root = logging.root
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(root, "filters", [])
    level = root.level
    before = set(logging.root.manager.loggerDict)
    yield
    root.setLevel(level)
    logging.disable(logging.NOTSET)
    for name in {*logging.root.manager.loggerDict} - before | {"pipedeco.step"}:
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.close()
        logger.handlers.clear()
        logger.filters.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate, logger.disabled = True, False
        del logging.root.manager.loggerDict[name]  # the next test makes it anew


def apart():
    """A logger that keeps to itself; made in the test, as pytest gives one that is there handlers."""
    logger = logging.getLogger("app")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    return logger


def perform(function, *args, **options):
    """Have a pipeline of one step call a function; the text of its log, and its value."""

    @component
    def step(*given):
        return function(*given)

    @pipeline(**options)
    def body():
        return value(step(*args))

    found = body()
    return get_run().logs("step"), found


def say(text="hello"):
    logging.getLogger("app").info(text)


# -- levels


def test_levels_hold(mode):
    """Of the root and of any logger, however deep, and what a logger inherits."""
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)
    app.setLevel(logging.WARNING)
    logging.getLogger("app.loud").setLevel(logging.DEBUG)

    def talk():
        for name in ("app", "app.loud", "app.loud.inner", "app.mute"):
            logging.getLogger(name).debug("debug of %s", name)
            logging.getLogger(name).warning("warning of %s", name)
        return logging.getLogger("app.loud.inner").isEnabledFor(logging.DEBUG)

    _, enabled = perform(talk)
    assert enabled
    assert sorted(keeping.messages) == [
        "debug of app.loud",
        "debug of app.loud.inner",
        "warning of app",
        "warning of app.loud",
        "warning of app.loud.inner",
        "warning of app.mute",
    ]


def test_a_level_that_is_set_after_a_run_holds_in_the_next(mode):
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)
    perform(say, "first")
    app.setLevel(logging.ERROR)
    perform(say, "second")
    app.setLevel(logging.INFO)
    perform(say, "third")
    assert keeping.messages == ["first", "third"]


def test_disabled_loggers_and_levels(mode):
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)
    logging.getLogger("app.off").disabled = True
    logging.disable(logging.INFO)

    def talk():
        say("too small")
        logging.getLogger("app.off").critical("of one that is off")
        logging.getLogger("app").warning("shown")

    perform(talk)
    assert keeping.messages == ["shown"]


def test_the_level_of_a_handler(mode):
    app = apart()
    small, great = Keeping(), Keeping(logging.ERROR)
    app.addHandler(small)
    app.addHandler(great)

    def talk():
        logging.getLogger("app").info("small")
        logging.getLogger("app").error("great")

    perform(talk)
    assert (small.messages, great.messages) == (["small", "great"], ["great"])


def test_names_of_levels(mode):
    app = apart()
    logging.addLevelName(5, "TRACE")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    app.addHandler(handler)
    app.setLevel(5)
    try:
        text, _ = perform(lambda: logging.getLogger("app").log(5, "fine"))
    finally:
        del logging._levelToName[5], logging._nameToLevel["TRACE"]
    assert text == stream.getvalue() == "TRACE fine\n"


# -- handlers of stdout and stderr


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_handler_of_the_terminal(mode, name, capfd):
    """Its text is on that stream once, and in the step's log once, with its own format."""
    app = apart()
    handler = logging.StreamHandler(getattr(sys, name))
    handler.setFormatter(logging.Formatter("%(levelname)s|%(name)s|%(message)s"))
    app.addHandler(handler)
    text, _ = perform(say)
    assert text == "INFO|app|hello\n"
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ((text, "") if name == "stdout" else ("", text))


def test_basic_config(mode, monkeypatch, capfd):
    """As most scripts have it: the root's one handler."""
    monkeypatch.setattr(logging.root, "handlers", [])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    def talk():
        print("printed", file=sys.stderr)
        logging.getLogger().info("of the root")
        logging.getLogger("any").info("of a logger")
        logging.getLogger("any").debug("too small")

    text, _ = perform(talk)
    assert text == "printed\nINFO of the root\nINFO of a logger\n"
    assert capfd.readouterr().err == text


def test_two_handlers_of_the_terminal_write_twice(mode, capfd):
    """As they do without pipedeco."""
    app = apart()
    for form in ("1 %(message)s", "2 %(message)s"):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(form))
        app.addHandler(handler)
    text, _ = perform(say)
    assert text == capfd.readouterr().err == "1 hello\n2 hello\n"


def test_no_handler_at_all(mode, monkeypatch, capfd):
    """Warnings go to stderr, and nothing else does."""
    monkeypatch.setattr(logging.root, "handlers", [])

    def talk():
        logging.getLogger("any").info("too small")
        logging.getLogger("any").warning("bare")

    text, _ = perform(talk)
    assert text == capfd.readouterr().err == "bare\n"


def test_a_formatter_and_a_filter_of_the_program(mode, capfd):
    app = apart()
    handler = logging.StreamHandler()
    handler.setFormatter(Shouting("%(mark)s %(message)s"))
    handler.addFilter(Without("secret"))
    app.addHandler(handler)

    def talk():
        say("open")
        say("a secret")

    text, _ = perform(talk)
    assert text == capfd.readouterr().err == "<SEEN OPEN>\n"


def test_a_formatter_that_no_process_can_take(mode, capfd):
    """The handler formats where it is."""
    app = apart()

    class Counting(logging.Formatter):
        lock = None

        def format(self, record):
            with self.lock:
                return f"counted {record.getMessage()}"

    handler = logging.StreamHandler()
    handler.setFormatter(Counting())
    Counting.lock = handler.lock
    handler.formatter.stream = capfd  # of which no pickler knows anything
    app.addHandler(handler)
    text, _ = perform(say)
    assert "hello" in text
    assert text.count("\n") == 1
    assert capfd.readouterr().err == "counted hello\n"


# -- files and other handlers


def test_a_file_that_is_written_anew(mode, tmp_path):
    """The file is opened once, by the program: what was there before the run stays."""
    app = apart()
    path = tmp_path / "app.log"
    handler = logging.FileHandler(path, mode="w")
    handler.setFormatter(logging.Formatter("%(levelname)s:%(message)s"))
    app.addHandler(handler)
    app.info("before")
    text, _ = perform(say)
    app.info("after")
    assert path.read_text() == "INFO:before\nINFO:hello\nINFO:after\n"
    assert text == "INFO:hello\n"


def test_a_rotating_file(mode, tmp_path):
    """One process alone rotates it."""
    app = apart()
    path = tmp_path / "app.log"
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=60, backupCount=20)
    app.addHandler(handler)

    @component
    def talk(number):
        for line in range(5):
            logging.getLogger("app").info("line %d of step %d", line, number)

    @pipeline
    def body():
        for number in range(4):
            talk(number)

    body()
    found = [line for part in tmp_path.glob("app.log*") for line in part.read_text().split("\n")]
    wanted = [f"line {line} of step {number}" for line in range(5) for number in range(4)]
    assert sorted(filter(None, found)) == sorted(wanted)
    assert len(list(tmp_path.glob("app.log*"))) > 3


def test_a_file_and_the_terminal(mode, tmp_path, capfd):
    """Each gets the record once, and so does the step's log."""
    app = apart()
    path = tmp_path / "app.log"
    file, terminal = logging.FileHandler(path), logging.StreamHandler()
    file.setFormatter(logging.Formatter("file %(message)s"))
    terminal.setFormatter(logging.Formatter("terminal %(message)s"))
    app.addHandler(file)
    app.addHandler(terminal)
    text, _ = perform(say)
    assert path.read_text() == "file hello\n"
    assert text == capfd.readouterr().err == "terminal hello\n"


def test_a_handler_of_several_loggers(mode):
    """A record that passes two loggers which share a handler is handled twice, as everywhere."""
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)
    logging.getLogger("app.inner").addHandler(keeping)
    text, _ = perform(lambda: logging.getLogger("app.inner").info("twice"))
    assert keeping.messages == ["twice", "twice"]
    assert text == "twice\n"


def test_a_handler_that_keeps_records(mode):
    """What a record has is there: arguments, what was added, the place, the exception."""
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)

    def talk():
        logger = logging.getLogger("app")
        logger.info("%s and %d", ["a", "list"], 2, extra={"user": "ada", "odd": threading.Lock()})
        try:
            {}["missing"]
        except KeyError:
            logger.exception("failed")

    text, _ = perform(talk)
    plain, failed = keeping.records
    assert plain.getMessage() == "['a', 'list'] and 2"
    assert plain.args == (["a", "list"], 2)
    assert plain.user == "ada"
    assert "lock" in str(plain.odd)
    assert (plain.name, plain.levelname, plain.funcName) == ("app", "INFO", "talk")
    assert plain.pathname == __file__
    assert failed.exc_info[0] is KeyError
    assert failed.exc_info[2].tb_frame.f_code.co_name == "talk"
    assert text.startswith("['a', 'list'] and 2\nfailed\nTraceback (most recent call last):\n")
    assert text.endswith("KeyError: 'missing'\n")


def test_a_filter_of_a_logger(mode):
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)
    app.addFilter(Without("secret"))

    def talk():
        say("open")
        say("a secret")

    text, _ = perform(talk)
    assert text == "open\n"
    assert [record.mark for record in keeping.records] == ["seen"]


def test_a_filter_that_no_process_can_take(mode):
    """One of a handler is asked where the handler is."""
    app = apart()

    class Locked(Without):
        def __init__(self, word):
            super().__init__(word)
            self.lock = threading.Lock()

    keeping = Keeping()
    keeping.addFilter(Locked("secret"))
    app.addHandler(keeping)

    def talk():
        say("open")
        say("a secret")

    perform(talk)
    assert keeping.messages == ["open"]


@in_workers
def test_a_filter_of_a_logger_that_cannot_travel_is_told(mode):
    app = apart()

    class Counting(Without):
        def __init__(self, word):
            super().__init__(word)
            self.numbers = (n for n in range(9))

    app.addFilter(Counting("secret"))
    with pytest.warns(UserWarning, match="filter .* of logger app cannot be pickled"):
        perform(say)


def test_propagation(mode, monkeypatch):
    """A logger that does not propagate keeps its records from the root."""
    of_root, of_logger = Keeping(), Keeping()
    monkeypatch.setattr(logging.root, "handlers", [of_root])
    logging.root.setLevel(logging.INFO)
    logging.getLogger("apart").addHandler(of_logger)
    logging.getLogger("apart").propagate = False

    def talk():
        logging.getLogger("apart").info("apart")
        logging.getLogger("other").info("other")

    text, _ = perform(talk)
    assert (of_root.messages, of_logger.messages) == (["other"], ["apart"])
    assert text == "apart\nother\n"


def test_a_queue_and_its_listener(mode):
    app = apart()
    keeping = Keeping()
    records = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, keeping)
    app.addHandler(logging.handlers.QueueHandler(records))
    listener.start()
    try:
        text, _ = perform(say)
    finally:
        listener.stop()
    assert keeping.messages == ["hello"]
    assert text == "hello\n"


def test_a_memory_handler(mode):
    app = apart()
    keeping = Keeping()
    memory = logging.handlers.MemoryHandler(10, target=keeping)
    app.addHandler(memory)
    perform(say)
    assert keeping.messages == []
    memory.flush()
    assert keeping.messages == ["hello"]


def test_the_records_that_pytest_catches(mode, caplog):
    with caplog.at_level(logging.DEBUG, logger="caught"):
        text, _ = perform(lambda: logging.getLogger("caught").debug("seen by %s", "pytest"))
    assert caplog.record_tuples == [("caught", logging.DEBUG, "seen by pytest")]
    assert "seen by pytest" in text


def test_a_handler_of_rich(mode):
    app = apart()
    file = io.StringIO()
    app.addHandler(RichHandler(console=Console(file=file, width=80)))
    text, _ = perform(say)
    assert file.getvalue().count("hello") == 1
    assert "INFO" in file.getvalue()
    assert "INFO" in text
    assert text.count("hello") == 1


def test_a_handler_of_rich_on_the_terminal(mode, capfd):
    app = apart()
    app.addHandler(RichHandler())
    text, _ = perform(say)
    shown = capfd.readouterr()
    assert (shown.out + shown.err).count("hello") == 1
    assert text.count("hello") == 1


def test_a_handler_that_fails(mode, capfd):
    """The step, the run and the other handlers do not mind."""
    app = apart()

    class Failing(logging.Handler):
        def emit(self, record):
            try:
                raise OSError("no space")
            except OSError:
                self.handleError(record)

    keeping = Keeping()
    app.addHandler(Failing())
    app.addHandler(keeping)
    _, found = perform(lambda: say() or 7)
    assert found == 7
    assert keeping.messages == ["hello"]
    assert "no space" in capfd.readouterr().err


# -- steps that do more


def test_many_steps_log_side_by_side(mode):
    """Each record once, and in the log of the step that it is of."""
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)

    @component
    def talk(number):
        for line in range(20):
            logging.getLogger("app").info("%d.%d", number, line)

    @pipeline
    def body():
        for number in range(20):
            talk(number)

    body()
    wanted = [f"{number}.{line}" for number in range(20) for line in range(20)]
    assert sorted(keeping.messages) == sorted(wanted)
    run = get_run()
    for number, record in enumerate(run.steps.values()):
        assert record.logs() == "".join(f"{number}.{line}\n" for line in range(20))


def test_a_thread_of_a_step(mode):
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)

    def talk():
        thread = threading.Thread(target=say, args=("of a thread",), name="helper")
        thread.start()
        thread.join()

    text, _ = perform(talk)
    assert text == "of a thread\n"
    assert [record.threadName for record in keeping.records] == ["helper"]


def test_each_attempt_has_its_records(mode):
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)

    @component(retries=1)
    def flaky():
        attempt = pipedeco.current_step().attempt
        logging.getLogger("app").info("attempt %d", attempt)
        if attempt == 1:
            raise ValueError("again")

    @pipeline
    def body():
        flaky()

    body()
    first, second = get_run().steps["flaky"].attempts
    assert (first.logs(), second.logs()) == ("attempt 1\n", "attempt 2\n")
    assert keeping.messages == ["attempt 1", "attempt 2"]


@in_workers
def test_what_a_step_changes_is_put_back(mode):
    """Levels, handlers, and what basicConfig does."""
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)

    def facts():
        names = ("app", "app.inner", "fresh")
        loggers = [logging.root, *map(logging.getLogger, names)]
        switches = [(g.level, g.propagate, g.disabled, len(g.filters)) for g in loggers]
        handlers = [(type(h).__name__, h.level) for g in loggers for h in g.handlers]
        return switches, handlers, logging.root.manager.disable, logging.raiseExceptions

    def change():
        logging.basicConfig(level=logging.DEBUG, force=True)
        logging.getLogger("app").handlers[0].setLevel(logging.CRITICAL)
        logging.getLogger("app").handlers.clear()
        logging.getLogger("app.inner").setLevel(logging.ERROR)
        logging.getLogger("app.inner").propagate = False
        logging.getLogger("app.inner").addFilter(lambda record: False)
        logging.getLogger("fresh").addHandler(logging.StreamHandler())
        logging.disable(logging.CRITICAL)

    @component
    def step(what):
        return what()

    @pipeline(workers=1)
    def body():
        before = value(step(facts))
        value(step(change))
        return before, value(step(facts)), value(step(say))

    before, after, _ = body()
    assert before == after
    assert keeping.messages == ["hello"]


@in_workers
def test_a_file_that_a_step_opens(mode, tmp_path):
    """It is the step's own, and what goes there stands in its log."""
    apart()
    path = tmp_path / "step.log"

    def talk():
        logging.getLogger("app").addHandler(logging.FileHandler(path))
        say()

    text, _ = perform(talk)
    assert path.read_text() == text == "hello\n"


def test_the_logger_of_pipedeco(mode, capfd):
    """It writes once, whatever else is set up, and wherever it was asked for first."""
    get_logger()
    text, _ = perform(lambda: get_logger().info("mine"))
    assert text.endswith("INFO mine\n")
    assert text == capfd.readouterr().err


def test_warnings_as_records(mode):
    keeping = Keeping()
    logging.getLogger("py.warnings").addHandler(keeping)

    def warn():
        warnings.simplefilter("always")
        warnings.warn("odd", stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            perform(warn)
        finally:
            logging.captureWarnings(False)
    assert len(keeping.messages) == 1
    assert "UserWarning: odd" in keeping.messages[0]


def test_the_body_logs_for_itself(mode, capfd):
    """No step's log has it, and no handler gets it twice."""
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)
    app.addHandler(logging.StreamHandler())

    @component
    def step():
        say("of the step")

    @pipeline
    def body():
        say("of the body")
        step()

    body()
    assert sorted(keeping.messages) == ["of the body", "of the step"]
    assert get_run().logs() == "of the step\n"
    assert sorted(capfd.readouterr().err.splitlines()) == ["of the body", "of the step"]


def test_a_script_with_spawned_workers(tmp_path):
    """In a process of its own, as spawn leaves helpers until its end."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import logging
            from pipedeco import component, get_run, pipeline

            class Shouting(logging.Formatter):
                def format(self, record):
                    return super().format(record).upper()

            logging.basicConfig(level=logging.INFO)
            logging.root.handlers[0].setFormatter(Shouting("%(message)s"))
            logging.root.addHandler(logging.FileHandler("app.log", mode="w"))

            @component
            def step():
                logging.info("hello")

            @pipeline(mode="local", start_method="spawn")
            def body():
                step()

            body()
            assert get_run().logs("step") == "HELLO\\n"
        """)
    )
    environment = {**os.environ, "PIPEDECO_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        check=True,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert done.stderr == b"HELLO\n"
    assert (tmp_path / "app.log").read_text() == "hello\n"


@in_workers
def test_a_module_that_sets_up_logging_when_it_is_imported(mode, tmp_path, monkeypatch, capfd):
    """Its like has been done in the program: no file is truncated, no handler is there twice."""
    path = tmp_path / "module.log"
    (tmp_path / f"chatty_{mode}.py").write_text(
        "import logging\n"
        "logger = logging.getLogger('chatty')\n"
        "logger.setLevel(logging.INFO)\n"
        f"logger.addHandler(logging.FileHandler({str(path)!r}, mode='w'))\n"
        "logger.addHandler(logging.StreamHandler())\n"
        "class Thing:\n"
        "    pass\n"
        "def talk(thing):\n"
        "    logger.info('hello')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(f"chatty_{mode}")
    module.logger.info("before")
    capfd.readouterr()
    text, _ = perform(module.talk, module.Thing())
    assert path.read_text() == "before\nhello\n"
    assert text == capfd.readouterr().err == "hello\n"


def test_nothing_of_a_run_is_left_in_the_program(mode):
    """The methods of logging and of the streams are what they were."""
    app = apart()
    app.addHandler(Keeping())
    perform(say)
    assert "write" not in vars(sys.stdout)
    assert logging.Logger.callHandlers.__module__ == "logging"
    assert logging.Handler.handle.__module__ == "logging"
    pipedeco.process.CONTROLLER.close()
    assert "write" not in vars(sys.stdout)


def test_a_record_is_kept_once_where_others_wrap_logging_amid_a_run(mode, monkeypatch):
    """Their wrapper calls ours after the run, too, which by then has nothing to say."""
    app = apart()
    app.addHandler(Keeping())
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)

    def passing_on(before):
        def call(logger, record):
            before(logger, record)

        return call

    def wrap_and_say():
        logging.Logger.callHandlers = passing_on(logging.Logger.callHandlers)
        say()

    for _ in range(3):
        text, _ = perform(wrap_and_say)
        assert text.count("hello") == 1


def test_records_that_do_not_fit(mode, capfd):
    """Arguments that the message has no place for, and numbers without end, fail no step."""
    app = apart()
    keeping = Keeping()
    app.addHandler(keeping)

    @component
    def talk():
        log = logging.getLogger("app")
        log.info("list %d", [1])
        log.info("large %x", 16**6000)
        return "done"

    @pipeline
    def body():
        return value(talk())

    assert body() == "done"
    misfit, large = keeping.records
    assert (misfit.msg, misfit.args) == ("list %d", ([1],))
    assert large.getMessage() == f"large 1{'0' * 6000}"


def test_filters_and_handlers_are_added_by_keyword(mode):
    @component
    def talk():
        log = logging.getLogger("app.keywords")
        handler = Keeping()
        log.addHandler(hdlr=handler)
        log.addFilter(filter=Without("secret"))
        log.warning("secret")
        log.warning("public")
        return handler.messages

    @pipeline
    def body():
        return value(talk())

    assert body() == ["public"]
