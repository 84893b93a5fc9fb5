"""The one place where the errors of botocore, aiohttp and S3 become ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asyncstore.backends.base import PutReply, PutStatus
from asyncstore.errors import BackendCapabilityError, BackendError, BackendTimeout

_UNSENT: Final = {
    "CredentialRetrievalError",
    "EndpointProviderError",
    "NoCredentialsError",
    "NoRegionError",
    "ParamValidationError",
    "PartialCredentialsError",
    "ProfileNotFound",
}
"""Classes of botocore, raised before anything leaves the machine, and again on every try.

By name, because importing the client library takes some 200 ms, and this module is imported when
a registry is constructed, perhaps on an event loop.
"""

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
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: BaseException) -> str:
    """The error code of S3's answer, such as ``NoSuchKey``; empty where there is none."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _response(error: BaseException) -> Mapping[str, Any]:
    """What botocore's ClientError carries; nothing for any other error."""
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}


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
    if _is_a(error, {"NoCredentialsError", "PartialCredentialsError"}):
        return BackendError(
            f"{what}: no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "name a profile, or pass access_key_id=... and secret_access_key=..."
        )
    if _is_a(error, _UNSENT):
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
    return BackendError(f"{what}: {type(error).__name__}: {error}", transient=True)


def _explained(status: int, code: str, error: BaseException) -> str:
    if code == _NO_BUCKET:
        return "there is no such bucket; create it first, and check the endpoint and the region"
    if status == 403:
        return f"access was denied (403 {code}): check the credentials and their permissions"
    message = str(_response(error).get("Error", {}).get("Message", ""))[:200]
    return f"the service answered {status} {code} {message}".rstrip()


def _is_a(error: BaseException, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or "Timeout" in type(error).__name__


def reply_to(error: BaseException, what: str, *, sent_once: bool) -> PutReply:
    """What an error tells of a conditional write.

    A client that may have sent it twice, unseen, can prove nothing by a refusal of the second.
    """
    ours = mapped(error, what)
    status, code = status_of(error), code_of(error)
    if status == 412 or is_absent(error):
        return PutReply(PutStatus.REFUSED, error=ours)
    definite = status in _DEFINITE or (status == 400 and code in _DEFINITE_400)
    if (definite and sent_once) or _is_a(error, _UNSENT):
        return PutReply(PutStatus.FAILED, error=ours)
    return PutReply(PutStatus.UNKNOWN, error=ours)
