"""What MXNet 1.9.1 needs to be correct and fast on a CPU; private names of MXNet are touched here only."""

BATCH_SIZE = 32  # images in one pass of inference, unless the user chooses another number
