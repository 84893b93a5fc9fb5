"""S3 buckets as backends, on aiobotocore."""

from asyncstore.backends.s3.address import S3Options
from asyncstore.backends.s3.backend import S3Backend

__all__ = ["S3Backend", "S3Options"]
