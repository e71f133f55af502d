"""Say how large, deep or many the content of a file may be.

Files come from strangers: a reader checks these limits before it allocates memory or follows a reference. SECURITY.md
states what they protect from. A limit that depends on a file's own size is a function of the reader.
"""

from __future__ import annotations

# Images
MAX_PIXELS = 1 << 26  # of an image, 200 MB once decoded: a small file can claim any size
