"""A service that logs by Loguru: python stock.py PORT"""

import sys

from loguru import logger
from opentelemetry.instrumentation.logging.handler import LoggingHandler

from service import logs, serve


class LoguruHandler(LoggingHandler):
    """Loguru hands over the values of `bind` as one, `extra`; here each is an attribute."""

    def emit(self, record):
        vars(record).update(vars(record).pop("extra"))
        super().emit(record)


# A function as the format: with a text, Loguru would append the traceback, which `exception.stacktrace` has already.
logger.add(LoguruHandler(logger_provider=logs), format=lambda _: "{message}")


def reserve(order):
    log = logger.bind(**{"order.id": order})
    if order % 7 == 0:
        log.warning("the shelf is nearly empty")
    log.success("reserved")
    return 204


serve(int(sys.argv[1]), "/reserve", reserve)
