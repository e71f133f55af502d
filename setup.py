"""The five source folders become one import package, so that no `datasets` or `eval` lands on a user's path."""

from setuptools import setup

PACKAGE_DIR = {
    "insightface_mx": "src",
    "insightface_mx.symbols": "symbols",
    "insightface_mx.eval": "eval",
    "insightface_mx.deploy": "deploy",
    "insightface_mx.datasets": "datasets",
}

setup(license="MIT", packages=list(PACKAGE_DIR), package_dir=PACKAGE_DIR)
