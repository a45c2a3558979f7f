"""loguru and structlog in steps are as the program has set them up; each in a script of its own."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

HEAD = """
import json
import logging
import sys
from pipedeco import component, get_run, pipeline, value

def tell(step, **more):
    print(json.dumps({"log": get_run().logs(step), **more}))
"""
SPAWN = """
import pipedeco
pipedeco.configure(start_method="spawn")
"""


@pytest.fixture(params=["debug", "local", "spawn", "remote"])
def script(request, tmp_path):
    """Executes a script in a mode: what it told, and its stderr."""

    def execute(text):
        path = tmp_path / "script.py"
        spawn = request.param == "spawn"
        path.write_text(HEAD + (SPAWN if spawn else "") + textwrap.dedent(text))
        environment = {
            **os.environ,
            "PIPEDECO_STORE": str(tmp_path / "store"),
            "PIPEDECO_MODE": "local" if spawn else request.param,
            "PIPEDECO_QUEUES": json.dumps({"default": "local://2"}),
        }
        done = subprocess.run(
            [sys.executable, path],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    return execute


AGAIN = """
    from loguru import logger

    @component
    def say(text):
        logger.info(text)

    @pipeline
    def main(text):
        value(say(text))

    found, before = [], set(logger._core.handlers)
    for text in ("one", "two", "three"):
        logger.configure(handlers=[{"sink": LIST.append, "format": "{message}"}])
        keys = set(logger._core.handlers)
        main(text)
        assert set(logger._core.handlers) == keys
        found.append(get_run().logs("say"))
    tell("say", kept=found, program=LIST)
"""


def test_loguru_that_is_set_up_again_between_runs(script):
    """Each run's records are kept, and nothing of ours is left in between."""
    told, _ = script("LIST = []\n" + textwrap.dedent(AGAIN))
    assert told["program"] == ["one\n", "two\n", "three\n"]
    assert ["one" in told["kept"][0], "two" in told["kept"][1], "three" in told["kept"][2]] == [
        True,
        True,
        True,
    ]


LOGURU = """
import loguru
from loguru import logger

SETUP

@component
def work(number):
    loguru.logger.debug("small")
    loguru.logger.bind(number=number).info("working {}", number)

@pipeline
def body():
    work(1)

body()
logger.complete()
"""


def loguru_script(setup, told=""):
    pytest.importorskip("loguru")
    return LOGURU.replace("SETUP", textwrap.dedent(setup)) + f"tell('work'{told})\n"


def test_loguru_as_it_comes(script):
    told, err = script(loguru_script(""))
    assert told["log"].count("working 1") == err.count("working 1") == 1


@pytest.mark.parametrize("enqueue", [False, True])
def test_loguru_on_stderr(script, enqueue):
    told, err = script(
        loguru_script(f"""
            logger.remove()
            logger.add(sys.stderr, level="INFO", format="{{level}} {{message}}", enqueue={enqueue})
        """)
    )
    assert told["log"] == err == "INFO working 1\n"


def test_loguru_in_a_file(script):
    """Beside the terminal; the file is not begun anew, and the filter holds."""
    told, err = script(
        loguru_script(
            """
            logger.remove()
            logger.add(sys.stderr, format="{message}", level="INFO")
            logger.add("app.log", mode="w", format="{level} {message} {extra}",
                       filter=lambda record: record["message"] != "small")
            logger.configure(extra={"team": "red"})
            logger.info("before")
            """,
            ", file=open('app.log').read()",
        )
    )
    assert told["file"].splitlines() == [
        "INFO before {'team': 'red'}",
        "INFO working 1 {'team': 'red', 'number': 1}",
    ]
    assert told["log"] == "working 1\n"
    assert err == "before\nworking 1\n"


def test_loguru_with_a_function(script):
    told, err = script(
        loguru_script(
            """
            seen = []
            logger.remove()
            logger.add(lambda message: seen.append((str(message), message.record["extra"])),
                       level="INFO", format="{message}!")
            """,
            ", seen=seen",
        )
    )
    assert told == {"log": "working 1!\n", "seen": [["working 1!\n", {"number": 1}]]}
    assert err == ""


STRUCTLOG = """
import structlog

def loud(logger, name, event):
    return {**event, "event": event["event"].upper()}

processors = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    loud,
    structlog.processors.KeyValueRenderer(key_order=["level", "event", "user"]),
]
wrapper = structlog.make_filtering_bound_logger(logging.INFO)

SETUP

log = structlog.get_logger()
structlog.contextvars.bind_contextvars(user="ada")

@component
def work(number):
    log.debug("small")
    structlog.get_logger().info("working", number=number)

@pipeline
def body():
    work(1)

body()
"""
LINE = "level='info' event='WORKING' user='ada' number=1\n"


def structlog_script(setup, told=""):
    pytest.importorskip("structlog")
    return STRUCTLOG.replace("SETUP", textwrap.dedent(setup)) + f"tell('work'{told})\n"


@pytest.mark.parametrize("kind", ["PrintLoggerFactory", "WriteLoggerFactory"])
def test_structlog_on_stderr(script, kind):
    told, err = script(
        structlog_script(f"""
            structlog.configure(
                processors=processors,
                wrapper_class=wrapper,
                logger_factory=structlog.{kind}(sys.stderr),
            )
        """)
    )
    assert told["log"] == err == LINE


def test_structlog_in_a_file(script):
    told, _ = script(
        structlog_script(
            """
            file = open("app.log", "w")
            structlog.configure(
                processors=processors,
                wrapper_class=wrapper,
                logger_factory=structlog.PrintLoggerFactory(file),
            )
            """,
            ", file=open('app.log').read()",
        )
    )
    assert told["file"] == LINE


def test_structlog_over_logging(script):
    """Its formatter is one of logging's."""
    told, _ = script(
        structlog_script(
            """
            remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
            handler = logging.FileHandler("app.log", mode="w")
            handler.setFormatter(
                structlog.stdlib.ProcessorFormatter(processors=[remove, processors[-1]])
            )
            logging.root.addHandler(handler)
            logging.root.setLevel(logging.INFO)
            structlog.configure(
                processors=[
                    *processors[:-1], structlog.stdlib.ProcessorFormatter.wrap_for_formatter
                ],
                wrapper_class=wrapper,
                logger_factory=structlog.stdlib.LoggerFactory(),
            )
            """,
            ", file=open('app.log').read()",
        )
    )
    assert told["file"] == told["log"] == LINE
