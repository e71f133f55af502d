"""Make MXNet 1.9.1 correct and fast on a CPU; only module_state.py uses private names of MXNet."""

BATCH_SIZE = 32  # images in one pass of inference, unless the user chooses another number
