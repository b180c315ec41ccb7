"""The Objects port on S3: reads, ranged reads, listings and small writes; uploads are in `upload`."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from botocore.exceptions import ClientError, ParamValidationError

from service.adapters.aws.clients import Clients
from service.adapters.aws.errors import AwsCall, error_code, http_status, perform
from service.adapters.aws.s3.upload import S3Upload
from service.domain.errors import AccessError, RetryableError, RowfleetError, SourceError
from service.domain.model import Source
from service.domain.ports import LISTING_LIMIT, Listing, StoredFile, UploadProgress

PART_BYTES = 8 * 1024 * 1024
"""Default size of an upload's first parts. S3 takes 10,000 parts of 5 MiB to 5 GiB."""

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

    async def delete(self, bucket: str, prefix: str, *, is_prefix: bool = True) -> int:
        """Delete the versions of objects below a prefix, or of the one with this key; return their number."""
        url = f"s3://{bucket}/{prefix}"
        page = await perform(
            self._call("s3:ListBucketVersions", url),
            self._s3.list_object_versions(Bucket=bucket, Prefix=prefix, MaxKeys=LISTING_LIMIT),
        )
        found = [
            {"Key": entry["Key"], "VersionId": entry["VersionId"]}
            for entry in [*(page.get("Versions") or ()), *(page.get("DeleteMarkers") or ())]
            if is_prefix or entry["Key"] == prefix
        ]
        if not found:
            return 0
        call = self._call("s3:DeleteObject and s3:DeleteObjectVersion", url, writes=True)
        done = await perform(
            call, self._s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
        )
        for error in done.get("Errors") or ():
            text = f"{url}: {error.get('Code')} {error.get('Message', '')} ({error.get('Key')})"
            raise (AccessError if error.get("Code") == "AccessDenied" else RetryableError)(text)
        return len(found)

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
