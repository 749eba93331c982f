"""VariableGroup: variables with loss terms, an optimizer and a schedule of their own."""

from __future__ import annotations

from lingvo_lite import hyperparams
from lingvo_lite.hyperparams import Self
from lingvo_lite.optim import optimizers, schedules


class VariableGroup:
    """Params of one entry of `task.train.learners`.

    p.train.learners = [
        VariableGroup.Params().Set(name='generator', variable_filter='^generator/',
                                   loss_terms=['fool'], optimizer=optimizers.Adam.Params()),
        VariableGroup.Params().Set(name='critic', variable_filter='^critic/',
                                   loss_terms=['tell'], optimizer=optimizers.SGD.Params()),
    ]
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """The Params of a group."""
        p = hyperparams.InstantiableParams(cls)
        p.Define('name', hyperparams.REQUIRED, 'Name of the group in logs.', type=str)
        p.Define('variable_filter', '.*', 'Regex (search) of the variable paths in it.')
        p.Define('loss_terms', [], 'Terms of the loss that train it; empty for all.')
        p.Define('learning_rate', 1e-3, 'Factor of the schedule.')
        p.Define('lr_schedule', schedules.Constant.Params(), 'Learning rate over updates.')
        p.Define('optimizer', optimizers.Adam.Params(), 'The optimizer.')
        return p

    def __init__(self, params: hyperparams.Params):
        self.params = params
