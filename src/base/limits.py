"""Say how large, deep or many the content of a file may be.

Files come from strangers: a reader checks these limits before it allocates memory or follows a reference. SECURITY.md
states what they protect from. A limit that depends on a file's own size is a function of the reader.
"""

from __future__ import annotations

# Arrays of MXNet 1.9.1
MAX_ARRAY = 2**31 - 1  # elements: class weights are classes x length of the embedding

# Images
MAX_PIXELS = 1 << 26  # of an image, 200 MB once decoded: a small file can claim any size
MANY_PIXELS = 1 << 22  # of a JPEG, from which on ..
MAX_SCANS = 200  # .. it may have this many scans; those of cameras and browsers have ten or fewer

# Messages
MAX_NAME = 80  # characters of a name or value from a file
MAX_WORD = 500  # characters of any word; paths are shorter
MAX_MESSAGE = 4000  # characters of an error's message
MAX_LINES = 1 << 16  # characters of other output at once: tables, tracebacks

# Arrays (.npz and .npy)
MAX_ARRAYS = 1000  # of one .npz file
MAX_ARRAY_HEADER = 10_000  # bytes
MAX_DIMENSIONS = 8
MAX_ZIP_DIRECTORY = 1 << 20  # bytes; also of one read of the file
MAX_INFLATION = 20  # times a file's own size that its arrays may have ..
SMALL_ARRAYS = 1 << 26  # .. or this many bytes: flags are packed to almost nothing

# Sets
MAX_CLASSES = 1 << 24  # labels are float32, which tells no more apart
MAX_SIDE = 4096  # pixels of an image of a set, and of a network's input
MAX_PROPERTY = 1000  # bytes of `property` that are looked at
