"""What MXNet 1.9.1 needs to be correct and fast on a CPU; private names of MXNet are touched here only."""
