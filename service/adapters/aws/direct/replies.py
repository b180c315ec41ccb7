"""Responses to direct calls, as botocore's events and callers know them."""

from __future__ import annotations

import zlib
from typing import Any

from aiobotocore.parsers import AioResponseParserFactory

from service.adapters.aws.direct.bodies import response_values
from service.adapters.aws.direct.operations import HotOperation

_HTTP_ERROR = 300


def is_error(http: Any) -> bool:
    """True for a response that botocore parses as an error."""
    return bool(http.status_code >= _HTTP_ERROR)


async def is_whole(http: Any) -> bool:
    """True for a response whose body has the checksum that DynamoDB sent with it, or that has none."""
    checksum = http.headers.get("x-amz-crc32")
    return checksum is None or zlib.crc32(await http.content) == int(checksum)


class ReplyParser:
    """Makes dictionaries of responses. `service` is botocore's description of the service."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self._errors = AioResponseParserFactory().create_parser("json")

    async def parse(self, http: Any, operation: HotOperation) -> dict[str, Any]:
        """The response with its `ResponseMetadata`. Raises ResponseParserError."""
        body: bytes = await http.content
        if is_error(http):
            return await self._error(http, operation, body)
        parsed = response_values(body, operation.model.output_shape)
        parsed["ResponseMetadata"] = metadata = {
            "HTTPStatusCode": http.status_code,
            "HTTPHeaders": http.headers,
        }
        if "x-amzn-requestid" in http.headers:
            metadata["RequestId"] = http.headers["x-amzn-requestid"]
        return parsed

    async def _error(self, http: Any, operation: HotOperation, body: bytes) -> dict[str, Any]:
        """An error response, with the members that the service's description has for its code."""
        response = {
            "headers": http.headers,
            "status_code": http.status_code,
            "body": body,
            "context": {"operation_name": operation.name},
        }
        parsed: dict[str, Any] = await self._errors.parse(response, operation.model.output_shape)
        shape = self._service.shape_for_error_code(parsed.get("Error", {}).get("Code"))
        if shape is not None:
            parsed.update(await self._errors.parse(response, shape))
        return parsed
