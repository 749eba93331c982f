"""from lingvo_lite import layers, inputs, optim, ...: resolved when first used."""

from . import (
    decoding as decoding,
    experiment as experiment,
    hyperparams as hyperparams,
    inputs as inputs,
    layers as layers,
    metrics as metrics,
    nested_map as nested_map,
    optim as optim,
    registry as registry,
    step as step,
    task as task,
)
from .hyperparams import REQUIRED as REQUIRED
from .nested_map import NestedMap as NestedMap

__version__: str
