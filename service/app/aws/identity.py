"""The name of whoever runs a command, for the log of operations."""

from __future__ import annotations

import getpass

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from service.adapters.aws.clients import AwsOptions

TIMEOUT_S = 5.0
"""Longest wait for STS. A name is worth no more."""


async def caller(options: AwsOptions) -> str:
    """The ARN of the AWS identity; the system's user at a local endpoint, or if STS does not answer."""
    if options.endpoint_url is None:
        config = AioConfig(
            connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1}
        )
        try:
            async with AioSession().create_client("sts", region_name=options.region, config=config) as sts:
                return str((await sts.get_caller_identity())["Arn"])
        except (BotoCoreError, ClientError):
            pass
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user database
        return "unknown"
