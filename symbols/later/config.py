"""Read the configuration of InsightFace's MXNet code of 2019 to 2021: which network and which options here it means.

That code has one dictionary for everything, `config`, with net_name, num_layers, net_output and so on.
"""

from __future__ import annotations

import difflib
from typing import Any, Mapping, NamedTuple

DEFAULTS: dict[str, Any] = {  # of the keys that describe a network, as in that code
    "net_name": "fresnet",
    "num_layers": 0,
    "net_output": "E",
    "net_multiplier": 1.0,
    "net_se": 0,
    "net_act": "prelu",
    "net_unit": 3,
    "net_input": 1,
    "net_blocks": (1, 4, 6, 2),
    "emb_size": 512,
    "densenet_dropout": 0.0,
    "bn_mom": 0.9,
}
OPTIONS = {  # key -> option of networks.get_symbol
    "net_output": "version_output",
    "net_multiplier": "version_multiplier",
    "net_se": "version_se",
    "net_act": "version_act",
    "net_unit": "version_unit",
    "net_input": "version_input",
    "net_blocks": "version_blocks",
    "densenet_dropout": "densenet_dropout",
    "bn_mom": "bn_mom",
}
EVERY = ("net_name", "emb_size", "net_output", "bn_mom", "net_act")  # keys that every network uses


class Network(NamedTuple):
    """A network of that code.

    Attributes:
        name: Its name here; the depth follows where `keys` has num_layers.
        keys: The keys that it uses, next to EVERY.
    """

    name: str
    keys: tuple[str, ...]


NETWORKS = {  # net_name -> the network
    "fresnet": Network("r", ("num_layers", "net_se", "net_unit", "net_input")),
    "fdensenet": Network("d", ("num_layers", "densenet_dropout")),
    "fmobilefacenet": Network("y1", ("net_blocks",)),
    "fmobilenet": Network("m1", ("net_multiplier", "net_input")),
    "fmnasnet": Network("mnas", ("net_multiplier",)),
    "vargfacenet": Network("vargfacenet", ("net_multiplier", "net_se")),
}
BLOCKS_OF_Y2 = (2, 8, 16, 4)  # net_blocks
# the options here of keys that describe a run
RUN_OPTIONS = {
    **{key: key for key in ("per_batch_size", "lr", "wd", "mom", "lr_steps", "max_steps")},
    **{key: key for key in ("ce_loss", "fc7_lr_mult", "fc7_wd_mult", "fc7_no_bias")},
    "val_targets": "target",
    "data_rand_mirror": "rand_mirror",
    "data_cutoff": "cutoff",
    "data_color": "color",
    "data_images_filter": "images_filter",
}
FLAGS = ("ce_loss", "fc7_no_bias")  # options that are False or True here
NO_EFFECT = ("workspace", "memonger", "count_flops", "ckpt_embedding")  # on the graph, and there is nothing to set here


class Meaning(NamedTuple):
    """What a configuration means here.

    Attributes:
        network: The network's name.
        emb_size: Length of the embedding.
        versions: Options of networks.get_symbol that are not at their defaults.
        idle: Keys that the network does not use, but that are not at their defaults.
    """

    network: str
    emb_size: int
    versions: dict[str, Any]
    idle: list[str]


def is_config(given: Mapping[str, Any]) -> bool:
    """Return whether the keys of a --config file are those of that code: one begins with net_, or is num_layers."""
    return any(key in DEFAULTS and key not in ("emb_size", "bn_mom", "densenet_dropout") for key in given)


def read(config: Mapping[str, Any]) -> Meaning:
    """Return what the keys of a configuration that describe a network mean; those of a run are left out.

    Args:
        config: The configuration. Missing keys have that code's defaults; without net_name it is a fresnet.

    Raises:
        ValueError: A key is unknown, the network does not exist, or num_layers is missing.
    """
    for key in config:
        if key not in DEFAULTS and key not in RUN_OPTIONS and key not in NO_EFFECT:
            near = difflib.get_close_matches(str(key), DEFAULTS)
            hint = f" (similar keys: {', '.join(near)})" if near else ""
            raise ValueError(f"there is no key {key!r} in the configuration of InsightFace's MXNet code{hint}")
    values = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    values["net_blocks"] = tuple(values["net_blocks"])
    if values["net_name"] not in NETWORKS:
        raise ValueError(f"net_name {values['net_name']!r} does not exist: choose from {', '.join(NETWORKS)}")
    network = NETWORKS[values["net_name"]]
    changed = [key for key, default in DEFAULTS.items() if values[key] != default]
    used = [key for key in changed if key in EVERY or key in network.keys]
    versions = {OPTIONS[key]: values[key] for key in used if key in OPTIONS}
    name = network.name
    if "num_layers" in network.keys:
        if not values["num_layers"]:
            raise ValueError(f"num_layers is missing, the depth of {values['net_name']}")
        name = f"{name}{values['num_layers']}"
    elif "version_blocks" in versions:
        blocks = versions.pop("version_blocks")
        if blocks == BLOCKS_OF_Y2:
            name = "y2"
        else:
            versions["version_blocks"] = ",".join(map(str, blocks))
    return Meaning(name, values["emb_size"], versions, [key for key in changed if key not in used])


def run_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options here of the keys of a configuration that describe a run."""
    return {option: _number(key, config[key]) for key, option in RUN_OPTIONS.items() if key in config}


def _number(key: str, value: Any) -> Any:
    """Return a value as the option here takes it: as a number, where it is not one of FLAGS."""
    if key in FLAGS:
        return bool(value)
    return int(value) if isinstance(value, bool) else value
