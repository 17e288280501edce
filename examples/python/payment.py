"""A service that logs by Python's standard `logging`: python payment.py PORT"""

import logging
import sys

from opentelemetry.instrumentation.logging.handler import LoggingHandler

from service import logs, serve

logging.basicConfig(level=logging.INFO)  # the console stays as it was
logging.getLogger().addHandler(LoggingHandler(logger_provider=logs))
log = logging.getLogger("payment")


def charge(order):
    try:
        if order % 13 == 0:
            raise ValueError("card expired")
    except ValueError:
        log.exception("payment refused", extra={"order.id": order})
        return 402
    log.info("charged", extra={"order.id": order})
    return 204


serve(int(sys.argv[1]), "/charge", charge)
