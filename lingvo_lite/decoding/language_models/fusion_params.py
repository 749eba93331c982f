"""Which language model a search listens to, and how much: shallow fusion as Params.

    p.fusion.lm = ngram.WordNGram.Params().Set(file='lm/3-gram.arpa.gz')
    p.fusion.Set(lm_weight=0.5, word_bonus=1.0)

or, on a decoder's command line,

    --set=task.search.method=beam
    --set=task.fusion.lm=lingvo_lite.decoding.language_models.fusion_params.RunLanguageModel
    --set=task.fusion.lm.run=/runs/lm --import=lingvo_lite.tasks.lm.model
"""

from __future__ import annotations

import glob
import os
from typing import Callable, Optional

import tensorflow as tf

from lingvo_lite import hyperparams, paths
from lingvo_lite.decoding import scorers
from lingvo_lite.decoding.language_models import fusion
from lingvo_lite.hyperparams import Self
from lingvo_lite.layers import base
from lingvo_lite.nested_map import NestedMap


class LmFusion:
    """log P(Y | X) + lm_weight * log P_lm(Y) + word_bonus * words(Y).

    Attributes:
      lm: what is added, for `search.CtcSearch.Decode`; None if that is nothing.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = hyperparams.InstantiableParams(cls)
        p.Define(
            'lm',
            None,
            'The language model; None for none.',
            type=hyperparams.Params,
            bound=fusion.LanguageModel,
            resume='free',
        )
        p.Define(
            'lm_weight',
            0.5,
            'Weight of the log-probability that the language model gives. At least 0.',
            resume='free',
        )
        p.Define(
            'word_bonus',
            0.0,
            'Added for each word, against the preference of language models for few of them. At '
            'least 0, in nats.',
            resume='free',
        )
        return p

    @classmethod
    def Check(cls, p: hyperparams.Params) -> None:
        """Raises ConfigError if a weight is negative."""
        hyperparams.RequireRange(p, 'lm_weight', 'word_bonus', at_least=0)

    def __init__(
        self,
        params: hyperparams.Params,
        vocabulary: fusion.Vocabulary,
        find_data: Callable[[str], str] = os.path.abspath,
    ):
        """Builds the language model.

        Args:
          params: of this class.
          vocabulary: of the search.
          find_data: turns the name of a file into its path, as inputs.data_files.FindData does.

        Raises:
          hyperparams.ConfigError: if there is no such model, or it is one of another vocabulary.
        """
        p = self.params = params
        terms: list[tuple[fusion.LanguageModel, float]] = []
        if p.lm is not None and p.lm_weight:
            try:
                model = p.lm.Instantiate(vocabulary=vocabulary, find_data=find_data)
            except (OSError, ValueError) as error:
                if isinstance(error, hyperparams.ConfigError):
                    raise
                raise hyperparams.Fail(p, str(error), 'lm') from None
            terms.append((model, p.lm_weight))
        if p.word_bonus:
            terms.append((fusion.WordCount(vocabulary), p.word_bonus))
        self.lm: Optional[fusion.LanguageModel] = fusion.Weighted(terms) if terms else None

    def Around(self, scorer: scorers.Scorer) -> scorers.Scorer:
        """The scorer with what is added to it, for `search.Search.Decode`."""
        return scorer if self.lm is None else fusion.Fusion(scorer, self.lm)


def adds(p: hyperparams.Params) -> bool:
    """Whether what these Params of LmFusion describe adds anything to a score."""
    return bool((p.lm is not None and p.lm_weight) or p.word_bonus)


class RunLanguageModel(fusion.LanguageModel):
    """A language model trained by lingvo_lite: a task of family lm.

    The task's Params are those in params.txt of its run, read as a template: the module of its
    class must be imported. Its weights are read by path; moving averages where there are any. The
    task offers

      InitStates(rows) -> state, tensors [rows, ...];
      ExtendStep(ids [rows], state) -> logits float32 [rows, at least vocab_size], state;
      Params: vocab_size, bos_id, eos_id.
    """

    @classmethod
    def Params(cls) -> hyperparams.InstantiableParams[Self]:
        """Params of this class."""
        p = hyperparams.InstantiableParams(cls)
        p.Define(
            'run',
            hyperparams.REQUIRED,
            'Log directory of the run that trained it.',
            type=str,
            resume='free',
        )
        p.Define(
            'checkpoint',
            '',
            "Prefix of the checkpoint; '' for the run's newest.",
            resume='free',
        )
        return p

    def __init__(
        self,
        params: hyperparams.Params,
        vocabulary: fusion.Vocabulary,
        find_data: Callable[[str], str],
    ):
        """Builds the task and reads its weights.

        Raises:
          hyperparams.ConfigError: if there is no such run or checkpoint, it does not fit its own
            Params, or the task is no language model of this vocabulary.
        """
        del find_data  # A run is no data file.
        self.params = params
        self.bos_id, self.eos_id = vocabulary.bos_id, vocabulary.eos_id
        template = task_params(params.run)
        missing = [name for name in ('InitStates', 'ExtendStep') if not hasattr(template.cls, name)]
        if missing:
            raise hyperparams.Fail(
                params,
                f'{params.run} trained a {template.cls.__name__}, which is no language model: it '
                f'has no {" and no ".join(missing)}.',
                'run',
            )
        _check_vocabulary(params, template, vocabulary)
        self._task = template.Instantiate()
        variables = self._task.AllVariables()
        if variables:  # There are none while only shapes are looked at.
            _restore(params, variables)

    def InitStates(self, rows: tf.Tensor) -> NestedMap:
        return self._task.InitStates(rows)

    def ExtendStep(self, ids: tf.Tensor, state: NestedMap) -> tuple[tf.Tensor, NestedMap]:
        logits, state = self._task.ExtendStep(ids, state)
        return tf.nn.log_softmax(tf.cast(logits, tf.float32)), state


def task_params(run: str) -> hyperparams.InstantiableParams[base.BaseLayer]:
    """The task's Params of a run, from its params.txt.

    Raises:
      hyperparams.ConfigError: if there is no such file, it cannot be read, or the task's class is
        in no module that is imported.
    """
    path = os.path.join(run, 'params.txt')
    try:
        with open(path, encoding='utf-8', newline='') as file:
            lines = file.read().split('\n')
    except OSError:
        raise hyperparams.ConfigError(
            f'{run} holds no run: {path} cannot be read. Give the log directory of a trained '
            'language model.'
        ) from None
    root = hyperparams.Params()
    root.Define('task', None, 'The task.', type=hyperparams.Params, bound=base.BaseLayer)
    # Line numbers stay what they are.
    kept = [line if line.startswith(('task :', 'task.')) else '' for line in lines]
    root.FromText('\n'.join(kept), source=path)
    if root.task is None:
        raise hyperparams.ConfigError(f'{path} has no line for the task.')
    task: hyperparams.InstantiableParams[base.BaseLayer] = root.task
    return task


def _check_vocabulary(
    params: hyperparams.Params, template: hyperparams.Params, vocabulary: fusion.Vocabulary
) -> None:
    """Both models must mean the same by an id."""
    wanted = (len(vocabulary.tokens), vocabulary.bos_id, vocabulary.eos_id)
    found = tuple(template.Get(key) for key in ('vocab_size', 'bos_id', 'eos_id'))
    if wanted != found:
        raise hyperparams.Fail(
            params,
            f'the language model of {params.run} has (vocab_size, bos_id, eos_id) {found}, this '
            f'model {wanted}. Both need one tokenizer.',
            'run',
        )
    path = os.path.join(params.run, 'vocabulary.txt')
    if vocabulary.fingerprint and os.path.exists(path):
        with open(path, encoding='utf-8') as file:
            known = file.read().strip()
        if known != vocabulary.fingerprint:
            raise hyperparams.Fail(
                params,
                f'the language model of {params.run} was trained with the vocabulary {known}, this '
                f'model has {vocabulary.fingerprint}. Both need one tokenizer.',
                'run',
            )


def _newest(run: str) -> str:
    """The prefix of the newest checkpoint of a run; '' if there is none."""
    indices = glob.glob(os.path.join(glob.escape(run), 'train', 'ckpt-*.index'))
    newest = max(indices, key=lambda path: (len(path), path), default='')
    return newest[: -len('.index')] if newest else ''


def _restore(params: hyperparams.Params, variables: dict[str, tf.Variable]) -> None:
    """Assigns the weights of the checkpoint that the params name."""
    prefix = params.checkpoint or _newest(params.run)
    if not prefix or not os.path.exists(f'{prefix}.index'):
        where = params.checkpoint or os.path.join(params.run, 'train')
        key = 'checkpoint' if params.checkpoint else 'run'
        raise hyperparams.Fail(params, f'there is no checkpoint {where}.', key)
    try:
        with paths.Literal(prefix) as path:
            reader = tf.train.load_checkpoint(path)
        shapes = reader.get_variable_to_shape_map()
        names = {
            path: path if f'{path}/.ema' not in shapes else f'{path}/.ema' for path in variables
        }
        for path, variable in variables.items():
            if shapes.get(names[path]) != variable.shape.as_list():
                raise hyperparams.Fail(
                    params,
                    f'{prefix} does not fit the params of its run: {path} is to be '
                    f'{variable.shape.as_list()}, there is {shapes.get(names[path], "none")}.',
                    'run',
                )
        for path, variable in variables.items():
            variable.assign(reader.get_tensor(names[path]))
    except (tf.errors.OpError, RuntimeError) as error:
        raise hyperparams.ConfigError(f'Checkpoint {prefix} is damaged: {error}') from None
