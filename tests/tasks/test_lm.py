"""Language models: their experiments, and as scorers of a search."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import experiment, hyperparams, registry, step
from lingvo_lite.decoding.ctc.prefix_beam_search import prefix_beam_search
from lingvo_lite.decoding.language_models import fusion, fusion_params
from lingvo_lite.layers import base
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.runs import rundir, vocabulary
from lingvo_lite.runs.checkpoints import tensors
from lingvo_lite.tasks.lm.params import librispeech
from lingvo_lite.testing import golden
from lingvo_lite.training import evaluation, learner

NAMES = [name for name in registry.List() if name.startswith('lm.')]
SHRUNK = {'model_dim', 'num_layers', 'cell_dim'}
BOS, EOS = 1, 2
LINES = ['THE CAT SAT', "DON'T", 'A DOG', '', 'THE DOG AND THE CAT', 'SO']


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def Tiny():
    p = librispeech.LibrispeechChar().Tiny()
    p.train.precision = 'float32'
    return p


def Data(folder, params):
    """The input of these Params, over LINES."""
    path = folder / params.file
    path.parent.mkdir(exist_ok=True)
    path.write_text(''.join(line + '\n' for line in LINES))
    return params.Instantiate()


# Experiments.


def test_every_experiment_is_looked_at():
    assert 'lm.LibrispeechChar' in NAMES
    assert {path.stem for path in golden.FOLDER.glob('lm.*.txt')} == set(NAMES)


def test_params_and_size_are_those_that_were_reviewed(name):
    cls = registry.Get(name)
    run = experiment.RunParams(cls, 'Train')
    with base.ShapesOnly():
        task = run.task.Instantiate()
    parts = [f'# {task.NumParameters():,} parameters in {len(task.Weights())} variables.']
    parts.append(run.ToText())
    for dataset in cls.Datasets():
        if dataset != 'Train':
            own = experiment.RunParams(cls, dataset).ToText().split('\n')
            lines = [line for line in own if line.startswith('input')]
            parts.append('\n'.join([f'# {dataset}', *lines, '']))
    golden.Check(name, '\n'.join(parts))


def test_tiny_is_the_same_but_small(name):
    full, tiny = registry.Get(name)().Task(), registry.Get(name)().Tiny()
    changed = {line.split(' : ')[0].rpartition('.')[2] for line in full.TextDiff(tiny).split('\n')}
    assert changed and changed <= SHRUNK
    with base.ShapesOnly():
        assert tiny.Instantiate().NumParameters() < 10_000


def test_every_dataset_can_be_read(name, folder):
    cls = registry.Get(name)
    for dataset in cls.Datasets():
        inputs = Data(folder, cls.Dataset(dataset))
        with inputs.Batches(train=False) as feed:
            ids = [int(i) for batch in feed for i in batch.replicas[0].id]
        assert sorted(ids) == list(range(len(LINES))), dataset


def test_lines_are_lower_case_characters_between_their_ends(folder):
    inputs = Data(folder, registry.Get('lm.LibrispeechChar').Dataset('Dev'))
    with inputs.Batches(train=False) as feed:
        batch = next(feed).replicas[0]
    (row,) = np.flatnonzero(batch.id == 1)
    (encoded,) = inputs.tokenizer.Encode(["don't"])
    assert 3 not in encoded  # nothing is unknown
    length = len(encoded)
    target = batch.target
    assert target.ids[row, : length + 1].tolist() == [BOS, *encoded]
    assert target.labels[row, : length + 1].tolist() == [*encoded, EOS]
    assert target.weights[row].sum() == length + 1
    assert inputs.Strings(1).target == "don't"
    with inputs.Batches() as feed:
        seen = {int(i) for _ in range(3) for i in next(feed).replicas[0].id}
    assert seen == {0, 1, 2, 4, 5}  # the empty line is not trained on


def test_a_missing_file_says_what_makes_it(folder):
    with pytest.raises(FileNotFoundError, match=r'librispeech-lm-norm.txt.*openslr.org.* makes'):
        registry.Get('lm.LibrispeechChar').Dataset('Train').Instantiate()


def test_steps_of_tiny_train_it(folder):
    p = Tiny()
    inputs = Data(folder, registry.Get('lm.LibrispeechChar').Dataset('Train'))
    task = p.Set(**{'train.learning_rate': 0.05}).Instantiate()
    one = learner.Learner(task, tf.distribute.get_strategy())
    before = {path: v.numpy() for path, v in task.TrainableVariables().items()}
    values = []
    with inputs.Batches() as feed:
        batch = next(feed).replicas
        for _ in range(12):
            values.append(one.TrainStep(batch).Read().metrics.log_pplx[0])
    # A model that knows nothing yet spreads its guesses over the vocabulary.
    assert values[0] == pytest.approx(np.log(p.vocab_size), rel=0.1)
    assert values[-1] < 0.8 * values[0]
    same = [path for path, v in task.TrainableVariables().items() if np.all(v == before[path])]
    assert not same, 'The steps did not change these.'


# Step by step.


@pytest.fixture(scope='module')
def model():
    p = Tiny()
    p.random_seed = 5
    task = p.Instantiate()
    # Away from the start, where all guesses are about the same.
    for variable in task.TrainableVariables().values():
        variable.assign(3.0 * variable)
    return task


TEXTS = np.array([[BOS, 7, 8, 9, 4], [BOS, 30, 4, 4, 31], [BOS, 6, 6, 6, 6]], np.int32)


def whole(task, texts):
    """log-probabilities of the next token, [text][position][vocab], by ComputePredictions."""
    with step.Context(training=False):
        paddings = tf.zeros(texts.shape)
        batch = make_batch(texts, paddings)
        x = task.ComputePredictions(batch).x
        flat = tf.reshape(x, [-1, x.shape[-1]])
        logits = task.softmax.Logits(flat)
    return tf.reshape(tf.nn.log_softmax(logits), [*texts.shape, -1]).numpy()


def make_batch(texts, paddings):
    return NestedMap(target=NestedMap(ids=tf.constant(texts), paddings=paddings))


def stepwise(lm, texts):
    @tf.function(autograph=False)
    def Graph(texts):
        with step.Context(training=False):
            state, found = lm.InitStates(tf.shape(texts)[0]), []
            for column in tf.unstack(texts, axis=1):
                scores, state = lm.ExtendStep(column, state)
                found.append(scores)
        return tf.stack(found, axis=1)

    return Graph(tf.constant(texts)).numpy()


def test_step_by_step_is_the_whole_at_once(model):
    got = tf.nn.log_softmax(stepwise(model, TEXTS)).numpy()
    np.testing.assert_allclose(got, whole(model, TEXTS), atol=1e-5)
    assert got.std(axis=(0, 1)).max() > 0.1  # the tokens before matter


def test_padding_changes_no_loss(model):
    def Loss(rows, time):
        ids = np.zeros([rows, time], np.int32)
        ids[0, :5] = TEXTS[0]
        weights = np.zeros([rows, time], np.float32)
        weights[0, :5] = 1
        labels = np.zeros_like(ids)
        labels[0, :5] = [*TEXTS[0, 1:], EOS]
        batch = make_batch(ids, tf.constant(1 - weights))
        batch.target.update(labels=tf.constant(labels), weights=tf.constant(weights))
        with step.Context(training=False):
            loss = model.ComputeLoss(model.ComputePredictions(batch), batch)
        return loss.per_example['loss'].numpy()[0], [x.numpy() for x in loss.terms['loss']]

    alone, padded = Loss(1, 5), Loss(3, 11)
    np.testing.assert_allclose(padded[0], alone[0], rtol=1e-5)
    np.testing.assert_allclose(padded[1], alone[1], rtol=1e-5)


# As the language model of another task.


@pytest.fixture
def run(model, tmp_path):
    """A run that trained `model`."""
    run = rundir.RunDir(str(tmp_path / 'lm_run'))
    root = experiment.RunParams(librispeech.LibrispeechChar, 'Train')
    root.task = model.params
    run.Create(run.train)
    run.WriteParams(root, 0)
    run.WriteVocabulary(vocabulary.Vocabulary('characters-1'))
    values = {path: variable.numpy() for path, variable in model.AllVariables().items()}
    zeros = {path: np.zeros_like(value) for path, value in values.items()}
    tensors.Save(f'{run.train}/ckpt-00000900', zeros)
    tensors.Save(f'{run.train}/ckpt-00001000', {**values, '.step': np.int64(1000)})
    averages = {f'{path}/.ema': value for path, value in values.items()}
    tensors.Save(str(tmp_path / 'averaged'), {**zeros, **averages})
    return run


TOKENS = ['', '', '', '\ufffd', *librispeech.CHARACTERS]


def Build(run, tokens=TOKENS, fingerprint='', **values):
    p = fusion_params.LmFusion.Params()
    p.lm = fusion_params.RunLanguageModel.Params().Set(run=run, **values)
    p.lm_weight = 1.0
    vocabulary = fusion.Vocabulary(tokens, BOS, EOS, fingerprint)
    return p.Instantiate(vocabulary=vocabulary).lm


def test_a_run_is_a_language_model(model, run, tmp_path):
    for values in ({}, {'checkpoint': str(tmp_path / 'averaged')}):
        lm = Build(run.path, fingerprint='characters-1', **values)
        np.testing.assert_allclose(stepwise(lm, TEXTS), whole(model, TEXTS), atol=1e-5)
    zeros = Build(run.path, checkpoint=f'{run.train}/ckpt-00000900')
    np.testing.assert_allclose(stepwise(zeros, TEXTS)[..., :32], -np.log(32), atol=1e-5)


def test_it_decides_where_the_audio_does_not(model, run):
    # Every frame says one of two characters, or the blank, for certain: which, the model knows.
    lm = Build(run.path)
    log_probs = np.full([1, 3, 32], -40.0, np.float32)
    log_probs[0, [0, 2], 7:9] = np.log(0.5)
    log_probs[0, 1, 0] = 0.0
    with step.Context(training=False):
        found = prefix_beam_search(tf.constant(log_probs), tf.zeros([1, 3]), 8, lm=lm)
    texts = np.array([[BOS, a, b] for a in (7, 8) for b in (7, 8)], np.int32)
    scores = [
        p[0, text[1]] + p[1, text[2]] + p[2, EOS] for text, p in zip(texts, whole(model, texts))
    ]
    assert np.ptp(scores) > 0.01
    assert found.ids.numpy()[0, 0].tolist() == texts[np.argmax(scores), 1:].tolist()
    np.testing.assert_allclose(found.scores[0, 0], max(scores) + 2 * np.log(0.5), atol=1e-4)


def test_shapes_need_no_weights(run):
    with base.ShapesOnly():
        Build(run.path, checkpoint='none')


def test_what_is_no_such_run_is_an_error(run, tmp_path):
    def Fails(match, *args, **kwargs):
        with pytest.raises(hyperparams.ConfigError, match=match):
            Build(*args, **kwargs)

    Fails(r'nowhere holds no run: .*params.txt cannot be read', str(tmp_path / 'nowhere'))
    Fails(r'there is no checkpoint .*ckpt-7\. Set at', run.path, checkpoint='ckpt-7')
    Fails(r'\(32, 1, 2\), this model \(31, 1, 2\)', run.path, tokens=TOKENS[:-1])
    Fails('vocabulary characters-1, this model has other', run.path, fingerprint='other')
    text = run.ReadParams()

    def Write(text):
        with open(run.params_file, 'w', encoding='utf-8') as file:
            file.write(text)

    Write(text.replace('task.rnn.cell.cell_dim : 16', 'task.rnn.cell.cell_dim : 24'))
    Fails(r'does not fit the params of its run: rnn/layers_0/cell/b is to be \[96\]', run.path)
    Write(text.replace('tasks.lm.RnnLm', 'tasks.lm.Missing'))
    Fails(r"has no class 'Missing'.*params.txt:\d+", run.path)
    Write("task : params('lingvo_lite.layers.dropout.Dropout')\n")
    Fails('trained a Dropout, which is no language model: it has no InitStates', run.path)
    Write('model : 1\n')
    Fails('has no line for the task', run.path)


def test_the_evaluator_reports_perplexity(model, folder):
    inputs = Data(folder, registry.Get('lm.LibrispeechChar').Dataset('Dev'))
    with inputs.Batches(train=False) as feed:
        batch = next(feed)
    result = evaluation.Evaluator(model, tf.distribute.get_strategy()).EvalStep(batch.replicas)
    total, weight = result.metrics['log_pplx']
    assert weight == sum(len(line) + 1 for line in LINES)
    assert np.isfinite(total) and total > 0
