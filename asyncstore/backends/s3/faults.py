"""The one place where the errors of botocore, aiohttp and S3 become ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointProviderError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from asyncstore.backends.base import PutReply, PutStatus
from asyncstore.errors import BackendCapabilityError, BackendError, BackendTimeout

FOREIGN: Final = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    # Something between us and the service may answer anything; what the client library makes of
    # bytes that are no reply of S3 is not always one of its own errors.
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)
"""Whatever a request may raise. Cancellation is not among them."""

_UNSENT: Final = (
    EndpointProviderError,
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ParamValidationError,
    ProfileNotFound,
)
"""Raised before anything leaves the machine, and again on every try."""

_DEFINITE_400: Final = {
    "AuthorizationHeaderMalformed",
    "EntityTooLarge",
    "ExpiredToken",
    "InvalidArgument",
    "InvalidBucketName",
    "InvalidDigest",
    "InvalidRequest",
    "InvalidToken",
    "KeyTooLongError",
    "MalformedXML",
    "MetadataTooLarge",
}
_DEFINITE: Final = {401, 403, 404, 405, 411, 413, 501}
"""Refused before it was looked at. Every other answer to a write proves nothing."""

_TRANSIENT: Final = {408, 409, 425, 429, 500, 502, 503, 504}
_TRANSIENT_CODES: Final = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"}

_NO_BUCKET: Final = "NoSuchBucket"


def status_of(error: BaseException) -> int:
    """The HTTP status that S3 answered; 0 where there was no answer."""
    if not isinstance(error, ClientError):
        return 0
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))


def code_of(error: BaseException) -> str:
    """The error code of S3's answer, such as ``NoSuchKey``; empty where there is none."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_absent(error: BaseException) -> bool:
    """Whether S3 said that there is no such object, in so many words.

    A bare 404 has no code but the number: it may be a missing bucket, or no S3 at all.
    """
    return code_of(error) in {"NoSuchKey", "NoSuchUpload"} and status_of(error) == 404


def mapped(error: BaseException, what: str) -> BackendError:
    """Our error for whatever a request raised; ``what`` names the request and the place."""
    if isinstance(error, BackendError):
        return error
    status, code = status_of(error), code_of(error)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return BackendError(
            f"{what}: no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "name a profile, or pass access_key_id=... and secret_access_key=..."
        )
    if isinstance(error, _UNSENT):
        return BackendError(f"{what}: {error}")
    if status == 501 or code == "NotImplemented":
        return BackendCapabilityError(f"{what}: the service does not implement it ({code})")
    if status:
        return BackendError(
            f"{what}: {_explained(status, code, error)}",
            transient=status in _TRANSIENT or code in _TRANSIENT_CODES,
        )
    if _is_timeout(error):
        return BackendTimeout(f"{what}: no answer in time ({type(error).__name__})", transient=True)
    if isinstance(error, BotoConnectionError):
        return BackendError(f"{what}: {error}", transient=True)
    return BackendError(f"{what}: {type(error).__name__}: {error}", transient=True)


def _explained(status: int, code: str, error: BaseException) -> str:
    if code == _NO_BUCKET:
        return "there is no such bucket; create it first, and check the endpoint and the region"
    if status == 403:
        return f"access was denied (403 {code}): check the credentials and their permissions"
    message = ""
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message", ""))[:200]
    return f"the service answered {status} {code} {message}".rstrip()


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or "Timeout" in type(error).__name__


def reply_to(error: BaseException, what: str) -> PutReply:
    """What an error tells of a conditional write."""
    ours = mapped(error, what)
    status, code = status_of(error), code_of(error)
    if status == 412 or is_absent(error):
        return PutReply(PutStatus.REFUSED, error=ours)
    definite = status in _DEFINITE or (status == 400 and code in _DEFINITE_400)
    if definite or isinstance(error, _UNSENT):
        return PutReply(PutStatus.FAILED, error=ours)
    return PutReply(PutStatus.UNKNOWN, error=ours)
