"""Uploads to S3: one object being written, in a single call or in parts.

A process can go on with the parts of another one, as it cuts the same parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError

from service.adapters.aws.errors import AwsCall, perform
from service.domain.errors import RowfleetError, UploadGoneError
from service.domain.ports import StoredFile, UploadProgress

GROWTH_PARTS = 1_390
"""A part has at least this share of the bytes before it: 10,000 parts then hold 5 TiB, S3's largest object.

The size depends on the offset alone, so that every process cuts the same parts. At 100 GB it is 68 MiB.
"""


class S3Upload:
    """One object being written: a single PUT up to one part, a multipart upload beyond."""

    def __init__(
        self,
        s3: Any,
        call: AwsCall,
        bucket: str,
        key: str,
        content_type: str,
        part_bytes: int,
        progress: UploadProgress | None = None,
    ) -> None:
        begun = progress or UploadProgress("", (), 0, b"")
        self._s3 = s3
        self._call = call
        self._object = {"Bucket": bucket, "Key": key}
        self._content_type = content_type
        self._part_bytes = part_bytes
        self._buffer = bytearray(begun.tail)
        # The bytes of another process's parts cannot be read before the object is complete.
        self._sha256 = None if begun.parts else hashlib.sha256(begun.tail)
        self._size = begun.size
        self._upload_id = begun.id
        self._parts: list[dict[str, Any]] = [dict(part) for part in begun.parts]
        self._is_left = self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        self._closed = True
        if self._is_left:
            return
        try:
            await self._abort()
        except RowfleetError as problem:
            if error is None:
                raise
            # the error of the body is the one to report
            error.add_note(f"the upload was not aborted either: {problem}")

    async def write(self, data: bytes) -> None:
        """Append. Holds at most one part in memory, besides `data` itself."""
        self._check_open()
        if self._sha256 is not None:
            self._sha256.update(data)
        self._size += len(data)
        self._buffer += data
        # not >=: the rest, which `complete` sends as the last part, must not be empty
        while len(self._buffer) > (part_bytes := self._next_part_bytes()):
            await self._send_part(bytes(self._buffer[:part_bytes]))
            # after the call: an upload that goes on after a failed call still has these bytes
            del self._buffer[:part_bytes]

    async def complete(self) -> StoredFile:
        """Make the whole object visible. After UnknownResultError it may be visible; write it again."""
        self._check_open()
        if self._upload_id:
            await self._send_part(bytes(self._buffer))
            await self._complete_parts()
        else:
            put = self._s3.put_object(
                **self._object, Body=bytes(self._buffer), ContentType=self._content_type
            )
            await perform(self._call, put)
        self._closed = True
        digest = "" if self._sha256 is None else self._sha256.hexdigest()
        return StoredFile(self._object["Bucket"], self._object["Key"], self._size, digest)

    @property
    def progress(self) -> UploadProgress:
        """The parts that S3 has, and the bytes after them."""
        parts = tuple(dict(part) for part in self._parts)
        return UploadProgress(self._upload_id if parts else "", parts, self._size, bytes(self._buffer))

    @property
    def stored_bytes(self) -> int:
        """Bytes in parts that S3 has."""
        return self._size - len(self._buffer)

    def leave(self) -> None:
        """Do not abort the upload when its context is left."""
        self._is_left = True

    def _next_part_bytes(self) -> int:
        return max(self._part_bytes, self.stored_bytes // GROWTH_PARTS)

    async def _send_part(self, body: bytes) -> None:
        if not self._upload_id:
            created = await perform(
                self._call,
                self._s3.create_multipart_upload(**self._object, ContentType=self._content_type),
            )
            self._upload_id = created["UploadId"]
        number = len(self._parts) + 1
        part = self._s3.upload_part(**self._object, UploadId=self._upload_id, PartNumber=number, Body=body)
        response = await self._call_on_upload(part)
        self._parts.append({"PartNumber": number, **_part_identity(response)})

    async def _complete_parts(self) -> None:
        complete = self._s3.complete_multipart_upload(
            **self._object, UploadId=self._upload_id, MultipartUpload={"Parts": self._parts}
        )
        await self._call_on_upload(complete)

    async def _call_on_upload(self, call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """The response to a call on the multipart upload. Raises UploadGoneError if it cannot go on."""
        # InvalidPart: two processes have written a part, and this one does not know the part that stays.
        expecting = replace(self._call, expects=frozenset({"NoSuchUpload", "InvalidPart"}))
        try:
            return await perform(expecting, call)
        except ClientError as error:
            # Another process may have aborted the upload (`abort_uploads`), or botocore repeated a completion
            # that had succeeded.
            raise UploadGoneError(
                f"{self._call.resource}: the upload was completed or aborted meanwhile"
            ) from error

    async def _abort(self) -> None:
        self._buffer.clear()
        if self._upload_id:
            abort = self._s3.abort_multipart_upload(**self._object, UploadId=self._upload_id)
            call = replace(
                self._call,
                permission="s3:AbortMultipartUpload",
                writes=False,
                expects=frozenset({"NoSuchUpload"}),
            )
            with suppress(ClientError):  # NoSuchUpload: another process has aborted it (`abort_uploads`)
                await perform(call, abort)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"the upload of {self._call.resource} is closed")


def _part_identity(response: dict[str, Any]) -> dict[str, str]:
    """The part's ETag and its checksum, if there is one: both must be repeated to complete the upload."""
    return {
        name: value for name, value in response.items() if name == "ETag" or name.startswith("ChecksumCRC")
    }
