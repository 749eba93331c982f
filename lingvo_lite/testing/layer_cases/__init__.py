"""All public layers, each with tiny Params, inputs, and how it is called: a list for each wing.

A new file with CASES is found. What layers are checked for is testing/conformance.py.
"""

from __future__ import annotations

import sys
from typing import Any

import lingvo_lite.layers
from lingvo_lite.layers import base
from lingvo_lite.testing import public_classes
from lingvo_lite.testing.layer_cases.calls import Vectors as Vectors
from lingvo_lite.testing.layer_cases.case import (
    LENGTHS as LENGTHS,
    ZEROS as ZEROS,
    Batch as Batch,
    Case as Case,
    Example as Example,
    Field as Field,
)


def AllCases() -> list[Case]:
    """The CASES of all files here: core, attention and conv of layers/ itself, and the wings."""
    cases: list[Case] = []
    for module in public_classes.Modules(sys.modules[__name__]):
        cases += getattr(module, 'CASES', [])
    return cases


CASES: list[Case] = AllCases()


def MissingLayers(package: Any = lingvo_lite.layers) -> list[str]:
    """Public layers in and below `package`, that is with an FProp, which no case is about."""
    covered = {case.params.cls for case in CASES}
    return [
        name
        for name, cls in public_classes.Below(package, base.BaseLayer).items()
        if cls.FProp is not base.BaseLayer.FProp and cls not in covered
    ]
