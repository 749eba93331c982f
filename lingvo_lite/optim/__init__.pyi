"""optim.Adam, optim.schedules.Transformer, ...: how a task is trained."""

from . import schedules as schedules
from .loss_scale import LossScale as LossScale
from .loss_scale_optimizer import LossScaleOptimizer as LossScaleOptimizer
from .optimizers import (
    SGD as SGD,
    Adafactor as Adafactor,
    Adam as Adam,
    AdamW as AdamW,
    BaseOptimizer as BaseOptimizer,
    KerasOptimizer as KerasOptimizer,
    Lamb as Lamb,
    Larc as Larc,
    Lion as Lion,
    Momentum as Momentum,
    NovoGrad as NovoGrad,
)
from .regularizers import L1 as L1, L2 as L2, BaseRegularizer as BaseRegularizer
from .variable_group import VariableGroup as VariableGroup
