"""A search that listens to a language model, from Params to records; and what TensorBoard gets."""

from __future__ import annotations

import contextlib
import json
import threading
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from lingvo_lite import hyperparams, step
from lingvo_lite.decoding import scorers
from lingvo_lite.decoding.language_models import fusion_params, ngram
from lingvo_lite.inputs.text import tokenizers
from lingvo_lite.jobs.scoring import decoding_pass, score_folder
from lingvo_lite.nested_map import NestedMap
from lingvo_lite.runs import rundir
from lingvo_lite.tasks.asr import ctc_model, model
from lingvo_lite.tasks.asr.params import spoken_digits

LETTERS = tokenizers.CharacterTokenizer.Params().Set(characters=' abpt').Instantiate()
VOCAB = LETTERS.vocab_size

# Of single words 'pat' is the more probable one, behind 'a' it is 'bat'.
WORDS = r"""\data\
ngram 1=5
ngram 2=2

\1-grams:
-99	<s>	0
-0.5	</s>
-0.7	a	-0.5
-1.5	bat
-0.5	pat

\2-grams:
-0.1	a bat
-3.0	a pat

\end\
"""
HEARD = ['?at', 'a ?at', '?at a ?at']  # ? is b or p; what is heard is b, but only just
ALONE = ['bat', 'a bat', 'bat a bat']
LISTENED = ['pat', 'a bat', 'pat a bat']


def Logits(text, repeats):
    """Of each character, with a blank (or nothing) between two: [steps, VOCAB]."""
    rows = []
    for character in text:
        row = np.full(VOCAB, -9.0, np.float32)
        if character == '?':
            row[LETTERS.Encode(['bp'])[0]] = [0.0, -0.3]
        else:
            row[LETTERS.Encode([character])[0]] = 0.0
        rows += [row] * repeats
        if repeats > 1:
            rows.append(np.where(np.arange(VOCAB) == 0, 0.0, -9.0).astype(np.float32))
    return np.array(rows)


def Batch(texts, repeats, pad=0):
    rows = [Logits(text, repeats) for text in texts]
    longest = max(map(len, rows)) + pad
    logits = np.zeros([len(rows), longest, VOCAB], np.float32)
    for own, row in zip(logits, rows):
        own[: len(row)] = row
    lengths = np.array([len(row) for row in rows], np.int32)
    return NestedMap(
        id=np.arange(len(rows)),
        row_weight=np.ones(len(rows), np.float32),
        source=NestedMap(logits=logits, num_frames=lengths, num_samples=320 * lengths),
    ).Transform(tf.constant)


class ToyCtc(ctc_model.CtcModel):
    """A model that finds what it hears in the batch, in frames of 40 ms."""

    def ComputePredictions(self, batch):
        frames = tf.shape(batch.source.logits)[1]
        paddings = 1 - tf.sequence_mask(batch.source.num_frames, frames, tf.float32)
        return NestedMap(logits=batch.source.logits, paddings=paddings)


class ToyAttention(model.AsrModel):
    """The same, a character a step."""

    def Scorer(self, batch):
        return TableScorer(batch)


class TableScorer(scorers.Scorer):
    bos_id, eos_id = 1, 2

    def __init__(self, batch):
        self._logits = batch.source.logits
        self._lengths = batch.source.num_frames
        self.source_lengths = tf.cast(self._lengths, tf.float32)

    def Init(self):
        rows = tf.shape(self._logits)[0]
        source = NestedMap(logits=self._logits, lengths=self._lengths)
        return NestedMap(cache=NestedMap(nothing=tf.zeros([rows])), source=source)

    def Step(self, ids, position, state):
        source = state.source
        here = source.logits[:, tf.minimum(position, tf.shape(source.logits)[1] - 1)]
        end = tf.one_hot([2], VOCAB, 0.0, -9.0)
        here = tf.where((position < source.lengths)[:, tf.newaxis], here, end)
        beams = tf.size(ids) // tf.shape(here)[0]
        return tf.repeat(here, beams, axis=0), state, None


def Toy(kind, **values):
    """(task, frames of a character)."""
    if kind == 'ctc':
        p = spoken_digits.SpokenDigits().Tiny().Set(vocab_size=VOCAB)
        p.search.Set(method='beam', beam_size=8)
    else:
        p = spoken_digits.SpokenDigitsLas().Tiny()
        p.decoder.vocab_size = VOCAB
        p.search.Set(method='beam', beam_size=8, max_ratio=1.0)
    own = {'ctc': ToyCtc, 'attention': ToyAttention}[kind].Params().FromText(p.ToText())
    return own.Set(**values).Instantiate(), {'ctc': 2, 'attention': 1}[kind]


def Inputs(tokenizer=LETTERS):
    return types.SimpleNamespace(
        tokenizer=tokenizer,
        Strings=lambda i: NestedMap(source=f'{i}.flac', target=LISTENED[i]),
    )


def Decode(task, batches):
    """The best text of each row of each batch, and its score."""
    best = []
    for batch in batches:
        with step.Context(training=False):
            found = task.Decode(batch)
        ids, lengths, scores = (x.numpy()[:, 0] for x in (found.ids, found.lengths, found.scores))
        texts = LETTERS.Decode([row[:length] for row, length in zip(ids, lengths)])
        best += list(zip(texts, scores))
    return best


@pytest.fixture
def words(tmp_path):
    """Params of a language model of words."""
    path = tmp_path / 'words.arpa'
    path.write_text(WORDS)
    return ngram.WordNGram.Params().Set(file=str(path))


@pytest.mark.parametrize('kind', ['ctc', 'attention'])
def test_a_language_model_decides_where_the_audio_hardly_does(kind, words):
    task, repeats = Toy(kind)
    task.PrepareDecode(Inputs())
    plain = Decode(task, [Batch(HEARD, repeats)])
    assert [text for text, _ in plain] == ALONE

    task, repeats = Toy(kind, **{'fusion.lm': words, 'fusion.lm_weight': 0.5})
    task.PrepareDecode(Inputs())
    together = Decode(task, [Batch(HEARD, repeats, pad=3)])
    assert [text for text, _ in together] == LISTENED
    # What it costs to hear 'p' in each of its frames, and to say 'pat' and </s>.
    log_p = 0.5 * np.log(10) * (-0.5 - 0.5)
    assert together[0][1] - plain[0][1] == pytest.approx(log_p - 0.3 * repeats, abs=0.01)
    alone = Decode(task, [Batch([text], repeats) for text in HEARD])
    assert [text for text, _ in alone] == LISTENED
    np.testing.assert_allclose([s for _, s in alone], [s for _, s in together], atol=1e-4)


@pytest.mark.parametrize('kind', ['ctc', 'attention'])
def test_a_bonus_makes_more_words(kind):
    texts = {}
    for bonus in (0.0, 2.0):
        task, repeats = Toy(kind, **{'fusion.word_bonus': bonus})
        task.PrepareDecode(Inputs())
        batch = Batch(['b?t'], repeats)
        logits = batch.source.logits.numpy()
        unsure = np.isclose(logits, -0.3).any(axis=2)
        logits[unsure] = -9.0
        logits[unsure, LETTERS.Encode(['t'])[0][0]] = 0.0
        logits[unsure, LETTERS.Encode([' '])[0][0]] = -1.0
        batch.source.logits = tf.constant(logits)
        texts[bonus] = Decode(task, [batch])[0][0]
    assert texts[0.0] == 'btt' and len(texts[2.0].split()) == 2


def test_tokens_that_are_words_are_the_words_of_a_file(tmp_path):
    tokenizer = tokenizers.WordTokenizer.Params().Set(words=['one', 'two']).Instantiate()
    path = tmp_path / 'tokens.arpa'
    path.write_text('\\data\\\nngram 1=3\n\\1-grams:\n-99 <s>\n-1 </s>\n-0.3 two\n\\end\\\n')
    lm = ngram.TokenNGram.Params().Set(file=str(path))
    task, _ = Toy('ctc', **{'fusion.lm': lm, 'fusion.lm_weight': 1.0})
    task.PrepareDecode(Inputs(tokenizer))
    added, _ = task._Fusion().lm.ExtendStep(tf.constant([1]), task._Fusion().lm.InitStates(1))
    np.testing.assert_allclose(added[0, 5], -0.3 * np.log(10), rtol=1e-5)
    assert added[0, 4] < -200  # 'one' is not in the file


class TestErrors:
    def test_greedy_search_over_frames_asks_nobody(self, words):
        with pytest.raises(hyperparams.ConfigError, match=r'greedy .* Set search.method=beam. Set'):
            Toy('ctc', **{'search.method': 'greedy', 'fusion.lm': words})
        with pytest.raises(hyperparams.ConfigError, match='counts no words'):
            Toy('ctc', **{'search.method': 'greedy', 'fusion.word_bonus': 1.0})
        Toy('ctc', **{'search.method': 'greedy', 'fusion.lm': words, 'fusion.lm_weight': 0.0})

    def test_a_missing_file(self, folder):
        lm = ngram.WordNGram.Params().Set(file='lm/none.arpa')
        task, _ = Toy('attention', **{'fusion.lm': lm})
        with pytest.raises(hyperparams.ConfigError, match='lm/none.arpa') as error:
            task.PrepareDecode(Inputs())
        assert 'data folder' in str(error.value)

    def test_a_model_of_other_tokens(self, words):
        tokenizer = tokenizers.WordTokenizer.Params().Set(words=['bat', 'pat']).Instantiate()
        task, _ = Toy('ctc', **{'fusion.lm': words})
        with pytest.raises(hyperparams.ConfigError, match=r"' bat'.*ngram.TokenNGram. Set at"):
            task.PrepareDecode(Inputs(tokenizer))

    def test_a_run_that_is_none(self, tmp_path):
        lm = fusion_params.RunLanguageModel.Params().Set(run=str(tmp_path / 'none'))
        task, _ = Toy('ctc', **{'fusion.lm': lm})
        with pytest.raises(hyperparams.ConfigError, match='none holds no run'):
            task.PrepareDecode(Inputs())

    def test_to_search_without_having_prepared(self, words):
        task, repeats = Toy('ctc', **{'fusion.lm': words})
        with pytest.raises(RuntimeError, match='call task.PrepareDecode'):
            Decode(task, [Batch(HEARD, repeats)])


# A pass over a dataset, and the folder that it is written into.


class Feed:
    """A dataset whose batches are one batch."""

    def __init__(self, batch):
        self._batch = batch.Transform(lambda x: x.numpy())
        rows = len(self._batch.id)
        waveform = 0.1 * np.sin(np.arange(rows * 9000)).reshape(rows, -1)
        self._batch.source.waveform = waveform.astype(np.float32)
        self.tokenizer, self.Strings = LETTERS, Inputs().Strings

    @contextlib.contextmanager
    def Batches(self, **kwargs):
        yield iter([types.SimpleNamespace(replicas=[self._batch])])

    def BadIds(self):
        return ()


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """(folder of results after two passes, the toy's batch)."""
    path = tmp_path_factory.mktemp('lm') / 'words.arpa'
    path.write_text(WORDS)
    lm = ngram.WordNGram.Params().Set(file=str(path))
    task, repeats = Toy('ctc', **{'fusion.lm': lm})
    prepared = []
    prepare = task.PrepareDecode
    task.PrepareDecode = lambda inputs: prepared.append(inputs) or prepare(inputs)
    feed = Feed(Batch(HEARD, repeats))
    devices = types.SimpleNamespace(strategy=tf.distribute.get_strategy(), replicas=1)
    scorer = decoding_pass.DecodingPass(task, devices, feed)
    assert prepared == [feed], 'A mistake must show before the first batch.'
    run = rundir.RunDir(str(tmp_path_factory.mktemp('run') / 'run'))
    folder = run.Folder('decode', 'Test')
    run.Create(folder)
    kept = score_folder.Results(folder, run, task.params.eval)
    for number in (10, 20):
        kept.Commit(number, None, scorer.Run(threading.Event()))
    kept.Close()
    assert prepared == [feed]
    return folder


def test_records_of_a_pass_have_words_with_their_times(written):
    with open(f'{written}/decoded-00000010.jsonl', encoding='utf-8') as file:
        records = [json.loads(line) for line in file]
    assert [record['hypotheses'][0] for record in records] == LISTENED
    # A character is said in two frames, and one of silence follows; a frame is 40 ms: the front
    # end's step of 10 ms times the strides of the encoder.
    assert records[1]['words'] == [
        {'word': 'a', 'start': 0.0, 'end': 0.08},
        {'word': 'bat', 'start': 0.24, 'end': 0.56},
    ]


def test_tensorboard_gets_error_rates_pictures_and_sounds(written):
    reader = event_accumulator.EventAccumulator(written, size_guidance={'audio': 0, 'images': 0})
    reader.Reload()
    assert [(e.step, e.value) for e in reader.Scalars('wer')] == [(10, 0.0), (20, 0.0)]
    tags = reader.Tags()
    assert {f'features/{i}' for i in range(3)} <= set(tags['images'])
    assert set(tags['audio']) == {f'audio/{i}' for i in range(3)}
    (sound,) = reader.Audio('audio/1')  # the second pass says the same
    assert (sound.step, sound.sample_rate) == (10, 8000.0)
    assert sound.length_frames == 15 * 320 and sound.content_type == 'audio/wav'
    waveform, rate = tf.audio.decode_wav(sound.encoded_audio_string)
    assert int(rate) == 8000
    wanted = 0.1 * np.sin(np.arange(9000, 9000 + 15 * 320))
    np.testing.assert_allclose(waveform[:, 0], wanted, atol=1e-4)
