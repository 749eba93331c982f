"""optim.Adam, optim.schedules.Transformer, ...: how a task is trained."""

from . import schedules as schedules
from .adafactor import Adafactor as Adafactor
from .base_optimizer import BaseOptimizer as BaseOptimizer
from .loss_scale import LossScale as LossScale
from .novograd import NovoGrad as NovoGrad
from .optimizers import (
    SGD as SGD,
    Adam as Adam,
    AdamW as AdamW,
    KerasOptimizer as KerasOptimizer,
    Lamb as Lamb,
    Larc as Larc,
    Lion as Lion,
    Momentum as Momentum,
)
from .regularizers import L1 as L1, L2 as L2, BaseRegularizer as BaseRegularizer
from .variable_group import VariableGroup as VariableGroup
