import logging

from pipedeco import component

log = logging.getLogger(__name__)
noisy = logging.getLogger("etl.noisy")


@component
def load(name):
    log.debug("opening %s", name)
    noisy.warning("nobody hears this")
    if name == "broken":
        try:
            return int(name)
        except ValueError:
            log.exception("cannot load %s", name)
            return 0
    log.info("loaded %s", name)
    return len(name)
