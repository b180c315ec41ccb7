"""The Objects port on S3."""

from service.adapters.aws.s3.objects import PART_BYTES, S3Objects
from service.adapters.aws.s3.upload import GROWTH_PARTS, S3Upload

__all__ = ["GROWTH_PARTS", "PART_BYTES", "S3Objects", "S3Upload"]
