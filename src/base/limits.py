"""Say how large, deep or many the content of a file may be.

Files come from strangers: a reader checks these limits before it allocates memory or follows a reference. SECURITY.md
states what they protect from. A limit that depends on a file's own size is a function of the reader.
"""

from __future__ import annotations

# Arrays of MXNet 1.9.1
MAX_ARRAY = 2**31 - 1  # elements: class weights are classes x length of the embedding

# Images
MAX_PIXELS = 1 << 26  # of an image, 200 MB once decoded: a small file can claim any size
MAX_LENGTH = 1 << 16  # pixels of a side; a JPEG has 65,500 at most
MANY_PIXELS = 1 << 22  # of a JPEG, from which on ..
MAX_SCANS = 200  # .. it may have this many scans; those of cameras and browsers have ten or fewer

# Checkpoints
MAX_GRAPH_BYTES = 1 << 24  # of PREFIX-symbol.json; the largest network here has 2 MB
MAX_GRAPH_NODES = 1 << 15  # the largest network here has 3,000
MAX_GRAPH_NAME = 1 << 10  # characters of a node's or parameter's name
MAX_ATTRIBUTE_TEXT = 1 << 16  # characters of a node's attribute
MAX_WINDOW = 1 << 12  # kernel, stride, dilation and padding of a layer
MAX_CHANNELS = 1 << 20  # of a layer, and other counts
MAX_OUTPUTS = (1 << 31) - 1  # of a dense layer, classes among them
MAX_MANIFEST_BYTES = 1 << 22  # of PREFIX-NNNN.json and PREFIX-state-N.json
MAX_PARAMETERS = 1 << 16  # arrays of a checkpoint
MAX_CENTRES = 16  # rows of class weights for a class; the paper of sub-centre ArcFace has up to 10
MAX_DEVICES = 1 << 10  # index of the device that an array was on
MAX_LAYER_VALUES = 1 << 10  # of a layer's output, for a pixel of the image; 172 in the largest layer here
MAX_NETWORK_VALUES = 1 << 16  # of all layers' outputs, for a pixel; 17,000 in the largest network here
MIN_PIXELS = 1 << 12  # smaller images count as this many for the two

# Pickles, and the verification sets that they are
MAX_OPERATIONS = 5_000_000  # of a pickle; an image of a verification set takes 2 to 30
MAX_MARKS = 64  # tuples, lists and dicts in each other; ten are usual
MAX_PICKLE_DIGITS = 100  # bytes of a number in text
PAIRED_IMAGES = 20_000  # of a verification set, whose file may name one image many times; ..
PAIRED_IMAGE_BYTES = 150  # .. or as many as the file has multiples of these bytes

# Numbers
MAX_DIGITS = 18  # of a whole number in an option or a list: it fits in 64 bits
MAX_COUNT = 1 << 60  # of what a run counts

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

# Feature files
MAX_FEATURE = 1 << 16  # numbers of one of MegaFace's; 512 are usual

# Matlab's files, as AgeDB's list
MAX_MAT_BYTES = 1 << 26  # of a .mat file, and of what it unpacks to
MAX_MAT_DEPTH = 8  # cells and structures in each other
MAX_MAT_ELEMENTS = 1 << 20  # of cells, structures, texts and arrays

# Reports
MAX_REPORT_BYTES = 1 << 26  # of the JSON file of insightface-verify

# Sets
MAX_CLASSES = 1 << 24  # labels are float32, which tells no more apart
MAX_SIDE = 4096  # pixels of an image of a set, and of a network's input
MAX_PROPERTY = 1000  # bytes of `property` that are looked at

# ONNX
MAX_ONNX_BYTES = 2_000_000_000  # of a file with the files of its parameters: protobuf's limit is 2^31
MAX_ONNX_NODES = 20_000
MAX_TENSORS = 50_000
MAX_ENTRIES = 300_000  # nodes, names, attributes and so on of a model
MAX_ONNX_ATTRIBUTE = 1 << 15  # a stride, kernel, border, number of groups or version
MAX_CONSTANT = 1 << 25  # numbers that the constant nodes of a graph make
MAX_NETWORK_PIXELS = 1 << 20  # of an image that a network takes
MAX_NETWORK_BATCH = 256  # images that a graph takes at a time
MAX_NUMBERS_AT_ONCE = 3 << 28  # that a network holds for one batch, 3 GB; r100 needs a tenth of it
MAX_MULTIPLICATIONS = 500_000_000_000  # for an image, 10 s on two cores; r100 needs 1/40 of it

# Face detection
MAX_WEIGHTS_BYTES = 1 << 24  # of one of MTCNN's networks, unpacked; the largest has 2 MB
