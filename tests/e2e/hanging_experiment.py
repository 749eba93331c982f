"""tiny_experiment.Digits whose data stop coming, without an error, as from a disk that went away.

--model=hanging_experiment.Hanging with this folder on PYTHONPATH, on the data of tiny_experiment.
"""

import threading

import tiny_experiment

from lingvo_lite import inputs, registry
from lingvo_lite.inputs import pipeline


class HangingInput(inputs.ParallelTextInput):
    """Reading one of the training batches never ends."""

    @classmethod
    def Params(cls):
        p = super().Params()
        p.Define('hang_at', 0, 'Steps that still get a batch; 0: all.', resume='free')
        return p

    def _Load(self, ids, plan, train):
        # The largest batch, tried before step 1, has index 0 wherever it stands in the order.
        if train and self.params.hang_at and plan.index == self.params.hang_at:
            threading.Event().wait()
        return super()._Load(ids, plan, train)


@registry.Register
class Hanging(tiny_experiment.Digits):
    """Set input.hang_at."""

    def Train(self):
        return pipeline.ParamsLike(HangingInput, super().Train())
