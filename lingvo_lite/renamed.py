"""Names that classes had before: texts outlive the files of the code.

A class stands in params.txt under its public name (`literals.ClassName`). Runs that began before
there were any named the module; they are read through this table.
"""

from __future__ import annotations

import functools
import logging
import re

_log = logging.getLogger(__name__)

# The module that held a class -> where its public name stands. A class that is called otherwise by
# now has a line of its own: 'package.module.Old': 'package.New'.
_TABLE = {
    'lingvo_lite.decoding.ctc': 'lingvo_lite.decoding',
    'lingvo_lite.decoding.lm_fusion': 'lingvo_lite.decoding',
    'lingvo_lite.decoding.ngram': 'lingvo_lite.decoding',
    'lingvo_lite.decoding.search': 'lingvo_lite.decoding',
    'lingvo_lite.inputs.mixing': 'lingvo_lite.inputs',
    'lingvo_lite.inputs.pipeline': 'lingvo_lite.inputs',
    'lingvo_lite.inputs.speech': 'lingvo_lite.inputs',
    'lingvo_lite.inputs.speech_files': 'lingvo_lite.inputs',
    'lingvo_lite.inputs.text': 'lingvo_lite.inputs',
    'lingvo_lite.inputs.tokenizers': 'lingvo_lite.inputs',
    'lingvo_lite.inputs.waveform_input': 'lingvo_lite.inputs',
    'lingvo_lite.layers.attention': 'lingvo_lite.layers',
    'lingvo_lite.layers.base': 'lingvo_lite.layers',
    'lingvo_lite.layers.batch_norm': 'lingvo_lite.layers',
    'lingvo_lite.layers.conformer': 'lingvo_lite.layers',
    'lingvo_lite.layers.conv': 'lingvo_lite.layers',
    'lingvo_lite.layers.conv_lstm': 'lingvo_lite.layers',
    'lingvo_lite.layers.ctc_loss': 'lingvo_lite.layers',
    'lingvo_lite.layers.dense_block': 'lingvo_lite.layers',
    'lingvo_lite.layers.dropout': 'lingvo_lite.layers',
    'lingvo_lite.layers.embedding': 'lingvo_lite.layers',
    'lingvo_lite.layers.feedforward': 'lingvo_lite.layers',
    'lingvo_lite.layers.frontend': 'lingvo_lite.layers',
    'lingvo_lite.layers.initializers': 'lingvo_lite.layers',
    'lingvo_lite.layers.linear': 'lingvo_lite.layers',
    'lingvo_lite.layers.norm': 'lingvo_lite.layers',
    'lingvo_lite.layers.positions': 'lingvo_lite.layers',
    'lingvo_lite.layers.recurrent_attention': 'lingvo_lite.layers',
    'lingvo_lite.layers.rnn': 'lingvo_lite.layers',
    'lingvo_lite.layers.rnn_cells': 'lingvo_lite.layers',
    'lingvo_lite.layers.softmax': 'lingvo_lite.layers',
    'lingvo_lite.layers.spec_augment': 'lingvo_lite.layers',
    'lingvo_lite.layers.transformer': 'lingvo_lite.layers',
    'lingvo_lite.optim.adafactor': 'lingvo_lite.optim',
    'lingvo_lite.optim.base_optimizer': 'lingvo_lite.optim',
    'lingvo_lite.optim.loss_scale': 'lingvo_lite.optim',
    'lingvo_lite.optim.novograd': 'lingvo_lite.optim',
    'lingvo_lite.optim.optimizers': 'lingvo_lite.optim',
    'lingvo_lite.optim.variable_group': 'lingvo_lite.optim',
    'lingvo_lite.tasks.asr.conformer_encoder': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.asr.ctc_model': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.asr.decoder': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.asr.deep_speech': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.asr.encoder': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.asr.input': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.asr.model': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.asr.recognizer': 'lingvo_lite.tasks.asr',
    'lingvo_lite.tasks.lm.input': 'lingvo_lite.tasks.lm',
    'lingvo_lite.tasks.lm.model': 'lingvo_lite.tasks.lm',
    'lingvo_lite.tasks.mt.input': 'lingvo_lite.tasks.mt',
    'lingvo_lite.tasks.mt.model': 'lingvo_lite.tasks.mt',
}
_IN_TEXT = re.compile(r"""\b(type|params|enum)\('([\w.]+)'\)""")


def Present(name: str) -> str:
    """The name that a class has by now; `name` itself unless the table knows better.

    Logs a line for each name that it translates, once.

    Args:
      name: dotted, of a class or of a member of an enum in one.
    """
    found = _Look(name)
    if found != name:
        _Tell(f'The class {name} is called {found} by now.')
    return found


def PresentText(text: str, source: str) -> str:
    """`text`, of 'key : value' lines, with the names that its classes have by now.

    Args:
      text: of params.txt, say.
      source: the file's name, for the log: one line for all names.
    """
    old: dict[str, str] = {}

    def Replace(match: re.Match[str]) -> str:
        found = _Look(match[2])
        if found != match[2]:
            old[match[2]] = found
        return f'{match[1]}({found!r})'

    result = _IN_TEXT.sub(Replace, text)
    if old:
        first = next(iter(old))
        count = '1 class' if len(old) == 1 else f'{len(old)} classes'
        _Tell(
            f'{source} names {count} as they were called before; {first} is read as {old[first]}.'
        )
    return result


def _Look(name: str) -> str:
    """Longest prefix first, so that a class may have a line of its own."""
    head, tail = name, ''
    while head:
        if head in _TABLE:
            return _TABLE[head] + tail
        head, dot, last = head.rpartition('.')
        tail = f'{dot}{last}{tail}'
    return name


@functools.cache
def _Tell(line: str) -> None:
    _log.info('%s', line)
