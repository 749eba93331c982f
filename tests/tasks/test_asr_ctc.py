"""CTC recognizers: nothing depends on the batch, every family trains, and records say how wrong."""

from __future__ import annotations

import inspect
import pathlib
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite import hyperparams, registry, step
from lingvo_lite.inputs.text import tokenizers
from lingvo_lite.layers import base
from lingvo_lite.layers.speech import jasper_blocks
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.tasks.asr import (
    conformer_encoder,
    ctc_model,
    deep_speech,
    input as asr_input,
    recognizer,
)
from lingvo_lite.tasks.asr.params import librispeech, librispeech_conformer, spoken_digits
from lingvo_lite.training import evaluation

VOCAB, EXAMPLES, RATE = 12, 32, 8000
RNG = np.random.default_rng(0)
SAMPLES = [1, 80, 4000, *RNG.integers(1, 5000, EXAMPLES - 3).tolist()]
HERTZ = [np.repeat(RNG.uniform(150, 3500, 13), 400)[:n] for n in SAMPLES]
WAVES = [
    (0.3 * np.sin(2 * np.pi * np.cumsum(h) / RATE) + 0.01 * RNG.normal(size=len(h))).astype('f')
    for h in HERTZ
]
WAVES[2][:] = 0  # silence
TEXTS = [RNG.integers(4, VOCAB, n % 4).tolist() for n in range(EXAMPLES)]


def DenseBlocks():
    p = jasper_blocks.DenseBlocks.Params()
    block = jasper_blocks.DenseBlock.Params().Set(output_dim=8, kernel_size=5)
    p.blocks = [block.Copy().Set(stride=2), block.Copy().Set(num_repeats=2, residual='dense')]
    return p


def DeepSpeech(**settings):
    p = deep_speech.DeepSpeechEncoder.Params().Set(
        conv_kernels=[(5, 7)], conv_strides=[(2, 2)], conv_channels=[3], hidden_dim=8
    )
    p.rnn.num_layers = 2
    p.rnn.cell.cell_dim = 6
    return p.Set(**settings)


def Conformer():
    p = conformer_encoder.ConformerEncoder.Params().Set(model_dim=8, num_layers=2)
    p.block.Set(num_heads=2, hidden_dim=16)
    p.block.convolution.kernel_size = 4
    return p


ENCODERS = {
    'blocks': DenseBlocks,
    'deep_speech': DeepSpeech,
    'row_conv': lambda: DeepSpeech(row_conv_width=3),
    'conformer': Conformer,
}


def Params(encoder='blocks', **settings):
    p = ctc_model.CtcModel.Params().Set(vocab_size=VOCAB, random_seed=3)
    p.frontend = spoken_digits.Frontend().Set(num_bins=12)
    p.encoder = ENCODERS[encoder]()
    return p.Set(**settings)


def Awake(p):
    """A model whose tokens change from frame to frame, also in silence."""
    task = p.Instantiate()
    draw = np.random.default_rng(p.random_seed)
    for variable in task.TrainableVariables().values():
        if len(variable.shape) == 1:
            variable.assign_add(0.1 * draw.normal(size=variable.shape))
    with step.Context(training=False):
        x, paddings = task.encoder(*task._Features(Batch(range(EXAMPLES)).Transform(tf.constant)))
    x = x.numpy()[paddings.numpy() < 0.5]
    w = draw.normal(size=[x.shape[1], VOCAB])
    w *= 1.5 / np.std(x @ w, axis=0)
    task.logits.vars.w.assign(w)
    task.logits.vars.b.assign(-np.mean(x @ w, axis=0))
    return task


def Batch(ids, pad=0):
    """The examples of these ids; `pad` samples more than the longest needs. -1 is a fill row."""
    waves = [WAVES[i] if i >= 0 else WAVES[0][:0] for i in ids]
    waveform = np.zeros([len(ids), max(map(len, waves)) + pad], np.float32)
    labels = np.zeros([len(ids), 8], np.int32)
    target = np.zeros([len(ids), 8], np.int32)
    paddings = np.ones([len(ids), 8], np.float32)
    for row, i in enumerate(ids):
        waveform[row, : len(waves[row])] = waves[row]
        if i >= 0:
            count = len(TEXTS[i]) + 1
            labels[row, :count] = [*TEXTS[i], 2]
            target[row, :count] = [1, *TEXTS[i]]
            paddings[row, :count] = 0
    return NestedMap(
        source=NestedMap(
            waveform=waveform, num_samples=np.array([len(wave) for wave in waves], np.int32)
        ),
        target=NestedMap(ids=target, labels=labels, paddings=paddings, weights=1 - paddings),
        id=np.array(ids, np.int64),
        row_weight=(np.array(ids) >= 0).astype(np.float32),
    )


def OnOne(task, fn):
    return evaluation.OnReplicas(task, tf.distribute.get_strategy(), fn, 'test')


@pytest.fixture(params=sorted(ENCODERS), scope='module')
def task(request):
    """A model of each family."""
    return Awake(Params(request.param))


class TestTheBatchDoesNotMatter:
    def test_logits_and_losses(self, task):
        def Forward(batch):
            predictions = task.ComputePredictions(batch)
            loss = task.ComputeLoss(predictions, batch).per_example['loss']
            return NestedMap(logits=predictions.logits, paddings=predictions.paddings, loss=loss)

        forward = OnOne(task, Forward)
        together = forward([Batch(range(EXAMPLES))])[0]
        for i in (0, 1, 2, EXAMPLES - 1):
            frames = int((together.paddings[i] < 0.5).sum())
            assert frames >= 1
            for pad in (0, 417):
                alone = forward([Batch([i], pad)])[0]
                assert (alone.paddings[0] < 0.5).sum() == frames
                wanted = together.logits[i, :frames]
                np.testing.assert_allclose(alone.logits[0, :frames], wanted, atol=1e-4)
                np.testing.assert_allclose(alone.loss[0], together.loss[i], atol=1e-4, rtol=1e-4)
        assert forward.num_traces == 1

    @pytest.mark.parametrize('method', ['greedy', 'beam'])
    def test_hypotheses(self, task, method):
        p = task.params.Copy()
        p.search = p.search.Copy().Set(method=method, beam_size=4)
        decoder = evaluation.Decoder(Awake(p), tf.distribute.get_strategy())

        def Decode(size):
            found = {}
            for first in range(0, EXAMPLES, size):
                ids = range(first, min(first + size, EXAMPLES))
                out = decoder.DecodeStep([Batch(ids, pad=size % 3)])[0]
                for row, i in enumerate(ids):
                    length = out.lengths[row, 0]
                    times = np.stack([out.first[row, :length], out.last[row, :length]]).tolist()
                    found[i] = (out.ids[row, 0, :length].tolist(), out.scores[row, 0], times)
            return found

        wanted = Decode(32)
        assert len({tuple(tokens) for tokens, _, _ in wanted.values()}) > EXAMPLES // 4
        for size in (1, 7):
            for i, (tokens, score, times) in Decode(size).items():
                assert tokens == wanted[i][0] and times == wanted[i][2], (size, i)
                assert score == pytest.approx(wanted[i][1], abs=1e-4, rel=1e-5)
        assert decoder.num_traces == 1


class TestTraining:
    def test_silence_a_sample_fill_rows_and_empty_texts_are_finite(self, task):
        before = {path: v.numpy() for path, v in task.AllVariables().items()}
        batch = Batch([0, 2, -1, 5, 9]).Transform(tf.constant)
        with step.Context(training=True), tf.GradientTape() as tape:
            out = task.ComputeLoss(task.ComputePredictions(batch), batch)
        gradients = tape.gradient(out.terms['loss'][0], task.TrainableVariables())
        assert np.isfinite(out.terms['loss'][0]) and out.terms['loss'][1] == 4
        for path, gradient in gradients.items():
            assert np.isfinite(gradient).all(), path
            assert np.abs(gradient).max() > 0, path
        for path, variable in task.AllVariables().items():
            variable.assign(before[path])  # moving averages

    def test_a_text_that_does_not_fit_is_counted_and_left_out(self):
        task = Params().Instantiate()
        batch = Batch([0, 7])  # one sample is one frame
        batch.target.ids[0, :4] = [1, 5, 6, 7]
        batch.target.paddings[0, :4] = 0
        with step.Context(training=False):
            out = task.ComputeLoss(task.ComputePredictions(batch), batch)
        total, weight = out.terms['loss']
        assert weight == 1 and total == out.per_example['loss'][1] > 0
        assert [float(x) for x in out.metrics['too_long']] == [1.0, 2.0]
        # By the tokens of those that count.
        assert float(out.metrics['log_pplx'][1]) == len(TEXTS[7])

    def test_the_loss_is_that_of_the_text_without_its_ends(self):
        """Of one frame, of a text of one token: -log p(token)."""
        task = Params().Instantiate()
        batch = Batch([0])
        batch.target.ids[0, :2], batch.target.paddings[0, :2] = [1, 9], 0
        with step.Context(training=False):
            predictions = task.ComputePredictions(batch)
            out = task.ComputeLoss(predictions, batch)
        shares = tf.nn.log_softmax(predictions.logits)[0, 0]
        np.testing.assert_allclose(out.terms['loss'][0], -shares[9], rtol=1e-5)


def test_a_frame_lasts_as_long_as_the_encoder_leaves_frames(task):
    """Counted in frames of the front end, of which each is 10 ms."""
    batch = Batch(range(EXAMPLES)).Transform(tf.constant)
    with step.Context(training=False):
        features, before = task.frontend(batch.source.waveform, batch.source.num_samples)
        _, after = task.encoder(features, before)
    counts = [tf.reduce_sum(1 - x, axis=1).numpy() for x in (before, after)]
    stride = task.frame_s / 0.01
    np.testing.assert_array_equal(counts[1], np.ceil(counts[0] / stride))
    assert stride > 1 and counts[0].max() > 40


def test_stacked_frames_last_longer():
    p = Params()
    p.frontend.Set(stack_size=3, frame_stride=3)
    assert p.Instantiate().frame_s == pytest.approx(0.06)


def test_words_are_said_when_the_frames_say_so():
    """Each digit is a word; the last one ends with the utterance, not with the frame."""
    task = Params(vocab_size=14).Instantiate()
    decoded = NestedMap(
        id=np.array([7, 3]),
        ids=np.array([[[6, 5]], [[13, 0]]]),
        lengths=np.array([[2], [1]]),
        scores=np.array([[-0.5], [-1.0]], np.float32),
        first=np.array([[3, 10], [0, -1]]),
        last=np.array([[4, 10], [20, -1]]),
        duration_s=np.array([0.215, 10.0], np.float32),
    )
    first, second = task.PostProcessDecodeOut(decoded, Inputs(), None)
    assert first['words'] == [
        {'word': 'two', 'start': 0.06, 'end': 0.1},
        {'word': 'one', 'start': 0.2, 'end': 0.215},
    ]
    assert second['words'] == [{'word': 'nine', 'start': 0.0, 'end': 0.42}]


def test_without_a_known_stride_there_are_no_times(monkeypatch):
    monkeypatch.delattr(jasper_blocks.DenseBlocks, 'time_stride')
    task = Params().Instantiate()
    assert task.frame_s is None
    with step.Context(training=False):
        assert 'first' not in task.Decode(Batch([7]).Transform(tf.constant))


def test_an_ensemble_means_the_probabilities():
    first, second = (Awake(Params(random_seed=n)) for n in (3, 4))
    batch = Batch(range(6)).Transform(tf.constant)
    with step.Context(training=False):
        logits = [each.ComputePredictions(batch).logits for each in (first, second)]
        paddings = first.ComputePredictions(batch).paddings
        out, alone = first.Decode(batch, [second]), first.Decode(batch)
    mean = np.mean([tf.nn.softmax(x) for x in logits], axis=0)
    best = np.log(mean.max(axis=2)) * (paddings.numpy() < 0.5)
    np.testing.assert_allclose(out.scores[:, 0], best.sum(axis=1), rtol=1e-4)
    assert not np.allclose(out.scores, alone.scores)


def test_row_convolution_looks_ahead_only():
    layer = deep_speech.RowConvolution.Params().Set(input_dim=2, width=3).Instantiate()
    x = RNG.normal(size=[2, 6, 2]).astype(np.float32)
    paddings = 1.0 - tf.sequence_mask([6, 4], 6, tf.float32)
    with step.Context(training=False):
        y = layer(tf.constant(x), paddings)
    w = layer.vars.w.numpy()
    real = x * (1 - paddings.numpy())[:, :, None]
    ahead = np.pad(real, [[0, 0], [0, 2], [0, 0]])
    wanted = sum(ahead[:, j : j + 6] * w[j] for j in range(3)) / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(y[0], np.maximum(wanted[0], 0), atol=1e-5)
    np.testing.assert_allclose(y[1, :4], np.maximum(wanted[1, :4], 0), atol=1e-5)


def test_convolutions_of_deep_speech_must_fit():
    with pytest.raises(hyperparams.ConfigError, match='1 conv_kernels need as many conv_channels'):
        Params('deep_speech', **{'encoder.conv_channels': [3, 3]}).Instantiate()


def test_the_picture_is_the_features(task):
    batch = Batch([3, 1]).Transform(tf.constant)
    with step.Context(training=False):
        predictions = task.ComputePredictions(batch)
        found = task.Summaries(predictions, batch).features
        features, paddings = task.frontend(batch.source.waveform, batch.source.num_samples)
    np.testing.assert_allclose(found, recognizer.picture(features, paddings))
    assert found.shape[1] == 12


class Inputs:
    """An input that knows the text of its examples."""

    tokenizer = tokenizers.WordTokenizer.Params().Set(words=asr_input.DIGITS).Instantiate()

    def Strings(self, index):
        text = {7: 'two one', 3: 'six'}.get(index)
        return NestedMap(source=f'{index}.flac', target=text)


def test_records_say_how_wrong_each_utterance_is():
    task = Params().Instantiate()
    metrics = task.CreateDecoderMetrics()
    decoded = NestedMap(
        id=np.array([7, 3, 8]),
        ids=np.array([[[6, 5], [6, 0]], [[8, 10], [8, 0]], [[4, 0], [0, 0]]]),
        lengths=np.array([[2, 1], [2, 1], [1, 0]]),
        scores=np.array([[-0.5, -1.5], [-1.0, -np.inf], [-2.0, -3.0]], np.float32),
    )
    first, second, third = task.PostProcessDecodeOut(decoded, Inputs(), metrics)
    assert first['hypotheses'] == ['two one', 'two'] and first['scores'] == [-0.5, -1.5]
    assert second == {
        'id': 3,
        'source': '3.flac',
        'reference': 'six',
        'hypotheses': ['four six'],
        'scores': [-1.0],
        'wer_edits': {'hits': 1, 'substitutions': 0, 'deletions': 0, 'insertions': 1},
        'cer_edits': {'hits': 3, 'substitutions': 0, 'deletions': 0, 'insertions': 5},
    }
    assert third == {
        'id': 8,
        'source': '8.flac',
        'hypotheses': ['zero', ''],
        'scores': [-2.0, -3.0],
    }
    assert metrics['wer'].value == pytest.approx(1 / 3)


class TestExperiments:
    def test_the_published_configuration_stands_there_word_for_word(self):
        text = pathlib.Path(__file__).with_name('test_asr_las.py').read_text(encoding='utf-8')
        published = text.split('PUBLISHED = """\n')[1].split('"""')[0]
        body = inspect.getsource(librispeech.Librispeech.Task).split('\n', 1)[1]
        assert textwrap.dedent(body).startswith(published)

    @pytest.mark.parametrize(
        ('name', 'millions'),
        [('S', 10.3), ('M', 30.7), ('L', 118.8)],
    )
    def test_the_conformer_is_as_large_as_the_paper_says(self, name, millions):
        """With an LSTM as decoder, as the transducer has one; relative positions add 6%."""
        cls = registry.Get(f'asr.LibrispeechConformer{name}Las')
        with base.ShapesOnly():
            count = cls().Task().Instantiate().NumParameters()
        assert 0.93 * millions * 1e6 < count < millions * 1e6

    def test_the_peak_of_the_learning_rate_of_the_conformer(self):
        p = librispeech_conformer.LibrispeechConformerM().Task()
        factor = float(p.train.lr_schedule.Instantiate().Value(10_000))
        assert p.train.learning_rate * factor == pytest.approx(0.05 / np.sqrt(256), rel=1e-3)
