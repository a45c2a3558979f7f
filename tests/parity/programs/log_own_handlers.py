"""Filters, adapters, a level and a handler of one's own, without a guard."""

import logging
import sys

from pipedeco import component, pipeline

NOTICE = 25
logging.addLevelName(NOTICE, "NOTICE")


class Collect(logging.Handler):
    """Keeps the records, for a summary at the end."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(f"{record.levelname}:{record.getMessage()}")


class Redact(logging.Filter):
    def filter(self, record):
        record.msg = str(record.msg).replace("secret", "***")
        return True


class Prefixed(logging.LoggerAdapter):
    def process(self, msg, kwargs):
        return f"[{self.extra['job']}] {msg}", kwargs


collect = Collect()
screen = logging.StreamHandler(sys.stdout)
screen.setFormatter(logging.Formatter("{levelname:>7} {message}", style="{"))
screen.addFilter(Redact())
logger = logging.getLogger("job")
logger.setLevel(NOTICE)
logger.propagate = False
logger.addHandler(collect)
logger.addHandler(screen)


@component
def clean(name):
    log = Prefixed(logger, {"job": name})
    log.info("too quiet")
    log.log(NOTICE, "the secret of %s", name)
    if name == "b":
        log.error("lost")
    return name.upper()


@pipeline
def main():
    logger.warning("begin")
    return "".join(sorted(clean(name) + "" for name in "abc"))


print(main())
print(sorted(collect.texts))
