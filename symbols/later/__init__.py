"""Build the networks that InsightFace's MXNet code of 2019 to 2021 added, and read that code's configuration."""
