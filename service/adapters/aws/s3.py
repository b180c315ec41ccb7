"""The Objects port on S3."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError, ParamValidationError

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, error_code, http_status, perform
from service.domain.errors import RowfleetError, SourceError, UploadGoneError
from service.domain.model import Source
from service.domain.ports import LISTING_LIMIT, Listing, StoredFile, UploadProgress

PART_BYTES = 8 * 1024 * 1024
"""Default size of an upload's first parts. S3 takes 10,000 parts of 5 MiB to 5 GiB."""

GROWTH_PARTS = 1_390
"""A part has at least this share of the bytes before it: 10,000 parts then hold 5 TiB, S3's largest object.

The size depends on the offset alone, so that every process cuts the same parts. At 100 GB it is 68 MiB.
"""

_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NoSuchVersion", "NotFound"})
_CHANGED = frozenset({"412", "PreconditionFailed"})
_FORBIDDEN = frozenset({"403", "AccessDenied", "Forbidden"})
_PAST_THE_END = frozenset({"416", "InvalidRange"})
_UNREADABLE = frozenset({"InvalidBucketName", "InvalidObjectState", "MethodNotAllowed", "405"})
_SOURCE_CODES = _MISSING | _CHANGED | _FORBIDDEN | _PAST_THE_END | _UNREADABLE


class S3Objects:
    """Reads, ranged reads and uploads. An upload holds at most `part_bytes` in memory."""

    def __init__(self, clients: Clients, *, part_bytes: int = PART_BYTES) -> None:
        self._s3 = clients.s3
        self._timeout_s = clients.options.call_timeout_s
        self._endpoint = clients.options.endpoint
        self._part_bytes = part_bytes

    async def head(self, bucket: str, key: str, version: str = "") -> Source:
        """Size, etag (unquoted) and version of an object."""
        source = Source(bucket, key, version=version)
        try:
            # HeadObject needs the permission s3:GetObject
            found = await perform(
                self._call("s3:GetObject", source.url, expects=_SOURCE_CODES),
                self._s3.head_object(**_object_parameters(source)),
            )
        except ClientError as error:
            raise _source_error(error, source) from error
        except RowfleetError as error:
            raise _invalid_name(error, source) from error
        return Source(
            bucket=bucket,
            key=key,
            etag=found["ETag"].strip('"'),
            version=found.get("VersionId", version),
            size=int(found["ContentLength"]),
        )

    async def listing(
        self, bucket: str, prefix: str, *, after: str = "", limit: int = LISTING_LIMIT
    ) -> Listing:
        """Up to `limit` objects (at most 1,000) with keys after `after`, by one consistent ListObjectsV2."""
        start = {"StartAfter": after} if after else {}
        page = await perform(
            self._call("s3:ListBucket", f"s3://{bucket}/{prefix}"),
            self._s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=limit, **start),
        )
        sources = [
            Source(bucket=bucket, key=entry["Key"], etag=entry["ETag"].strip('"'), size=int(entry["Size"]))
            for entry in page.get("Contents") or ()
        ]
        return Listing(sources, sources[-1].key if page.get("IsTruncated") and sources else None)

    async def read(self, source: Source, start: int, length: int) -> bytes:
        """Bytes `start` to `start + length`, fewer at the end; SourceError if the etag changed."""
        if length <= 0:
            return b""  # an HTTP range cannot be empty
        try:
            return await perform(
                self._call("s3:GetObject", source.url, expects=_SOURCE_CODES),
                self._read(source, f"bytes={start}-{start + length - 1}"),
            )
        except ClientError as error:
            if error_code(error) in _PAST_THE_END:
                return b""
            raise _source_error(error, source) from error
        except RowfleetError as error:
            raise _invalid_name(error, source) from error

    def upload(
        self, bucket: str, key: str, *, content_type: str, progress: UploadProgress | None = None
    ) -> S3Upload:
        """Start writing an object, or go on; nothing is visible until the upload is completed."""
        call = self._call("s3:PutObject", f"s3://{bucket}/{key}", writes=True)
        return S3Upload(
            s3=self._s3,
            call=call,
            bucket=bucket,
            key=key,
            content_type=content_type,
            part_bytes=self._part_bytes,
            progress=progress,
        )

    async def put(self, bucket: str, key: str, body: bytes, *, content_type: str) -> StoredFile:
        """Write a small object in one call."""
        await perform(
            self._call("s3:PutObject", f"s3://{bucket}/{key}", writes=True),
            self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type),
        )
        return StoredFile(bucket, key, len(body), hashlib.sha256(body).hexdigest())

    async def put_if(self, bucket: str, key: str, body: bytes, *, content_type: str, etag: str) -> bool:
        """Write a small object unless another one, or none, is there. False if nothing was written.

        An object that is to be replaced needs the permission s3:GetObject as well.
        """
        condition = {"IfMatch": f'"{etag}"'} if etag else {"IfNoneMatch": "*"}
        call = self._call(
            "s3:PutObject", f"s3://{bucket}/{key}", writes=True, expects=_CHANGED | {"NoSuchKey"}
        )
        put = self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, **condition)
        try:
            await perform(call, put)
        except ClientError:
            return False
        return True

    async def check_writable(self, bucket: str, key: str) -> None:
        """Begin an upload of this object and abort it: S3 checks bucket, permission and encryption key.

        An abort that fails is ignored: an upload without parts costs nothing, and a lifecycle rule ends it.
        """
        url = f"s3://{bucket}/{key}"
        created = await perform(
            self._call("s3:PutObject", url, writes=True),
            self._s3.create_multipart_upload(Bucket=bucket, Key=key),
        )
        abort = self._s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=created["UploadId"])
        with suppress(RowfleetError):
            await perform(self._call("s3:AbortMultipartUpload", url), abort)

    async def abort_uploads(self, bucket: str, key: str, *, keep: str = "") -> int:
        """Abort every unfinished upload of exactly this key but `keep`; return their number."""
        url = f"s3://{bucket}/{key}"
        listing = self._call("s3:ListBucketMultipartUploads", url)
        aborting = self._call("s3:AbortMultipartUpload", url, expects=frozenset({"NoSuchUpload"}))
        aborted = 0
        marker: dict[str, str] = {}
        while True:
            # S3 lists in key order, so the uploads of this key come before those of longer keys
            page = await perform(
                listing, self._s3.list_multipart_uploads(Bucket=bucket, Prefix=key, **marker)
            )
            for upload in page.get("Uploads") or ():
                if upload["Key"] != key or upload["UploadId"] == keep:
                    continue
                abort = self._s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload["UploadId"])
                with suppress(ClientError):  # NoSuchUpload: completed or aborted in the meantime
                    await perform(aborting, abort)
                    aborted += 1
            if not page.get("IsTruncated"):
                return aborted
            marker = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    async def _read(self, source: Source, byte_range: str) -> bytes:
        # S3 answers 412 if the object was overwritten since its ETag was read
        match = {"IfMatch": f'"{source.etag}"'} if source.etag else {}
        response = await self._s3.get_object(**_object_parameters(source), Range=byte_range, **match)
        async with response["Body"] as stream:
            body: bytes = await stream.read()
        return body

    def _call(
        self, permission: str, url: str, *, writes: bool = False, expects: frozenset[str] = frozenset()
    ) -> AwsCall:
        return AwsCall(
            permission, url, self._timeout_s, writes=writes, expects=expects, endpoint=self._endpoint
        )


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


def _object_parameters(source: Source) -> dict[str, str]:
    address = {"Bucket": source.bucket, "Key": source.key}
    return address | {"VersionId": source.version} if source.version else address


def _source_error(error: ClientError, source: Source) -> SourceError:
    code = error_code(error)
    if code in _MISSING:
        return SourceError(f"{source.url} does not exist: upload it and submit the run again")
    if code in _CHANGED:
        return SourceError(
            f"{source.url} was changed while it was read (its etag is no longer {source.etag}): "
            "start a new run, and upload new data under a new key"
        )
    if code in _FORBIDDEN:
        return SourceError(
            f"{source.url} may not be read: grant s3:GetObject on it and s3:ListBucket on the bucket "
            "(without the latter S3 reports missing objects as forbidden too)"
        )
    return SourceError(f"{source.url} cannot be read (HTTP {http_status(error)} {code})")


def _invalid_name(error: RowfleetError, source: Source) -> RowfleetError:
    """SourceError for a malformed bucket name, which botocore refuses without a call."""
    if isinstance(error.__cause__, ParamValidationError):
        return SourceError(f"{source.url} is no valid address: {error.__cause__}")
    return error
