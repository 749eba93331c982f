"""A task that trains in seconds: spells a number's digits as letters. 305 -> d a f.

--model=tiny_experiment.Digits with this folder on PYTHONPATH; the data are made by `WriteData`.
"""

import math
import os
import random

import numpy as np

from lingvo_lite import experiment, inputs, optim, registry
from lingvo_lite.tasks.mt import model

_LINES = {'train': 400, 'dev': 13, 'test': 21}


def WriteData(folder):
    """Writes tiny/{train,dev,test}.{src,tgt} into a data folder."""
    os.makedirs(os.path.join(folder, 'tiny'), exist_ok=True)
    for split, count in _LINES.items():
        draw = random.Random(split)
        numbers = [str(draw.randrange(10 ** draw.randint(1, 6))) for _ in range(count)]
        letters = [' '.join(chr(ord('a') + int(digit)) for digit in n) for n in numbers]
        for side, lines in (('src', numbers), ('tgt', letters)):
            with open(os.path.join(folder, 'tiny', f'{split}.{side}'), 'w') as file:
                file.writelines(line + '\n' for line in lines)


def Tone(count):
    """Float [count], a tone in the middle of silence."""
    wave = [0.5 * math.sin(0.3 * n) if count / 4 < n < count / 2 else 0.0 for n in range(count)]
    return np.array(wave, np.float32)


@registry.Register
class Digits(experiment.BaseExperiment):
    """Dropout, EMA and Adam on: all that a restart has to bring back."""

    def Task(self):
        p = model.TransformerModel.Params()
        p.vocab_size = 264
        p.model_dim = 16
        p.input_dropout.rate = 0.1
        for stack in (p.encoder, p.decoder):
            stack.Set(num_layers=1, num_heads=2, hidden_dim=32)
            stack.Set(residual_dropout_prob=0.1, atten_dropout_prob=0.1, relu_dropout_prob=0.1)
        p.search.Set(method='beam', beam_size=2, max_steps=12)
        p.train.Set(learning_rate=0.01, optimizer=optim.Adam.Params())
        p.train.Set(max_steps=20, save_interval_steps=5, summary_interval_steps=5)
        p.train.Set(ema_decay=0.9, precision='float32')
        return p

    def Tiny(self):
        return self.Task()

    def Train(self):
        return self._Input('train').Set(tokens_per_batch=600)

    def Dev(self):
        return self._Input('dev')

    def Test(self):
        return self._Input('test')

    def _Input(self, split):
        p = inputs.ParallelTextInput.Params()
        p.source_file = f'tiny/{split}.src'
        p.target_file = f'tiny/{split}.tgt'
        p.tokens_per_batch = 200
        return p
