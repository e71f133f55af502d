"""The five source folders become one import package, so that no `datasets` or `eval` lands on a user's path."""

from setuptools import setup

PACKAGE_DIR = {
    "insightface_mx": "src",
    "insightface_mx.base": "src/base",
    "insightface_mx.cli": "src/cli",
    "insightface_mx.files": "src/files",
    "insightface_mx.formats": "src/formats",
    "insightface_mx.photos": "src/photos",
    "insightface_mx.engine": "src/engine",
    "insightface_mx.conversion": "src/conversion",
    "insightface_mx.onnx_files": "src/onnx_files",
    "insightface_mx.detection": "src/detection",
    "insightface_mx.embedding": "src/embedding",
    "insightface_mx.shards": "src/shards",
    "insightface_mx.training": "src/training",
    "insightface_mx.symbols": "symbols",
    "insightface_mx.symbols.later": "symbols/later",
    "insightface_mx.symbols.parts": "symbols/parts",
    "insightface_mx.eval": "eval",
    "insightface_mx.eval.searches": "eval/searches",
    "insightface_mx.eval.template_sets": "eval/template_sets",
    "insightface_mx.eval.features": "eval/features",
    "insightface_mx.deploy": "deploy",
    "insightface_mx.datasets": "datasets",
}

setup(license="MIT", packages=list(PACKAGE_DIR), package_dir=PACKAGE_DIR)
