"""A look at the place of a batch's results before any row is paid for."""

from __future__ import annotations

import structlog

from service.batch.manifest import MANIFEST
from service.batch.role_ports import Ports
from service.domain.errors import AccessError, ConfigError, RetryableError
from service.domain.model import Location

log = structlog.get_logger(__name__)

PAUSES_S = (1.0, 4.0, 10.0)
"""Pauses before a refusal is asked for again: permissions that were just given are denied for seconds."""


async def refusal_of(ports: Ports, output: Location) -> str:
    """The reason why no results can be written under `output`, or "".

    A throttle or a lost connection is no refusal: the results are written much later.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            await ports.objects.check_writable(output.bucket, output.prefix + MANIFEST)
        except RetryableError as error:
            log.warning("output_not_checked", output=output.url(), reason=str(error))
        except (AccessError, ConfigError) as error:
            if pause_s is None:
                return f"no results can be written under {output.url()}, so no row was run: {error}"
            await ports.clock.sleep(pause_s)
            continue
        return ""
    raise AssertionError("the last refusal is returned")
