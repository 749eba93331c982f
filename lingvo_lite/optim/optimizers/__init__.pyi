"""optimizers.Adam, optimizers.Larc, ...: also optim.Adam, optim.Larc."""

from .adafactor import Adafactor as Adafactor
from .adam import Adam as Adam, AdamW as AdamW
from .base_optimizer import BaseOptimizer as BaseOptimizer
from .keras_optimizer import KerasOptimizer as KerasOptimizer
from .lamb import Lamb as Lamb
from .larc import Larc as Larc
from .lion import Lion as Lion
from .momentum import SGD as SGD, Momentum as Momentum
from .novograd import NovoGrad as NovoGrad
