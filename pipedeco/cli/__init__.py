"""The `pipedeco` command: run pipelines, and see what is remembered of their runs."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

from pipedeco.errors import PipedecoError

if TYPE_CHECKING:
    from cyclopts import App

VARIABLES = """\
Environment variables, which go before [tool.pipedeco] of pyproject.toml:

  PIPEDECO_MODE          debug, local or remote
  PIPEDECO_WORKERS       how many worker processes a run may use
  PIPEDECO_STORE         the folder of the store
  PIPEDECO_BLOBS         where values of remote steps are: s3://bucket/team
  PIPEDECO_QUEUES        engines of remote mode: {"default": "local://2"}
  PIPEDECO_START_METHOD  nursery or spawn
  PIPEDECO_PROGRESS      auto, full or off: what is shown of a run
  PIPEDECO_STRICT        0: reports outside of runs do nothing
  PIPEDECO_ENVIRONMENTS  the folder of the environments of steps with packages="""
TELLING = "run", "resume", "rerun"  # commands whose help tells the variables
USAGE_ERROR = 2
INTERRUPTED = 130  # as if SIGINT had ended us
BROKEN_PIPE = 141  # as if SIGPIPE had ended us
# What write() says of a stream that takes no more.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN)


def main(arguments: list[str] | None = None) -> int:
    """Execute the command line and return its exit code.

    0, or 1 for a run that failed, 2 for a user's mistake, 130 for what was interrupted.
    """
    from cyclopts import CycloptsError, UnusedCliTokensError

    from pipedeco.cli.output import complain, print_traceback

    if sys.stdout is None:  # closed by whoever called us: there is nobody to be told
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may know fewer characters
        sys.stdout.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = make_app(words)(
            words or ["--help"],
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except UnusedCliTokensError as error:
        complain(f"{' '.join(error.unused_tokens or ())!r} is too much here; see --help")
        return USAGE_ERROR
    except CycloptsError as error:
        complain(" ".join(str(error).split()))
        return USAGE_ERROR
    except PipedecoError as error:
        traceback = getattr(error, "traceback", None)
        if traceback:  # of the user's file that could not be loaded
            print_traceback(traceback)
        complain(str(error))
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # piped into `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        complain(_sentence(error))
        return USAGE_ERROR
    return code if isinstance(code, int) else 0


def _sentence(error: OSError) -> str:
    """What the system has refused."""
    if error.filename is None and error.errno in UNWRITABLE:  # a full disk behind stdout
        return f"what was to be told cannot be written: {error.strerror}"
    of_what = "" if error.filename is None else f": {os.fspath(error.filename)}"
    return f"{error.strerror or error}{of_what}"


def make_app(words: list[str]) -> App:
    """The commands, their options and their help, all from the functions that they are."""
    from cyclopts import App

    from pipedeco.cli import (
        artifacts,
        caching,
        checking,
        comparing,
        debugging,
        keeping,
        metrics,
        reading,
        running,
        showing,
    )

    app = App(
        name="pipedeco",
        help=__doc__,
        help_epilogue=VARIABLES if _tells_variables(words) else None,
        version=_version,
        help_format="plaintext",
    )
    # Once a file is named, these are asked of its pipeline.
    named = any(not word.startswith("-") for word in words[1:])
    flags: dict[str, list[str]] = {"help_flags": [], "version_flags": []} if named else {}
    app.command(running.run, name="run", **flags)
    app.command(running.rerun, name="rerun", **flags)
    app.command(reading.runs, version_flags=[])
    for command in (
        showing.show,
        reading.logs,
        metrics.metrics,
        artifacts.artifacts,
        reading.graph,
        running.cancel,
        running.release,
        running.resume,
    ):
        app.command(command)
    app.command(checking.check)
    app.command(checking.doctor)
    app.command(comparing.compare)
    app.command(comparing.diff)
    app.command(debugging.debug)
    app.command(caching.why)
    app.command(caching.make_cache_app())
    for keeper in (keeping.archive, keeping.unarchive, keeping.rm, keeping.prune):
        app.command(keeper)
    app.command(keeping.fsck)
    app.command(keeping.export)
    app.command(keeping.import_, name="import")
    app.register_install_completion_command(help="Install completion for this shell.")
    return app


def _tells_variables(words: list[str]) -> bool:
    return not words or words[0] in TELLING or words[0].startswith("-")


def _version() -> str:
    from pipedeco import __version__

    return __version__
