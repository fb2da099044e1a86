"""What an image is: what it is packed in and what it holds, told by its content alone.

Client, exporter and storage drivers ask here, and nowhere else. The layers come off by the standard library, zstd and
lz4; of what is inside only magic numbers are read.
"""

from jumpstarter_proto.images.admission import ImageRefused, check_content, check_growth
from jumpstarter_proto.images.readers import PeekReader, Read
from jumpstarter_proto.images.signatures import HEAD_BYTES, Content, Verdict, identify
from jumpstarter_proto.images.unpack import ImageReader, Layer, open_image, open_image_file, trailing_remark

__all__ = [
    "HEAD_BYTES",
    "Content",
    "ImageReader",
    "ImageRefused",
    "Layer",
    "PeekReader",
    "Read",
    "Verdict",
    "check_content",
    "check_growth",
    "identify",
    "open_image",
    "open_image_file",
    "trailing_remark",
]
