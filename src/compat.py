"""The door to MXNet for other programs: `from insightface_mx.compat import mx`. The code is in base/compat.py."""

from insightface_mx.base.compat import mx
from insightface_mx.base.machine import cpu_count

__all__ = ["cpu_count", "mx"]
