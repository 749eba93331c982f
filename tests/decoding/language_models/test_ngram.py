"""n-gram models against the back-off recursion over the file, in plain Python."""

from __future__ import annotations

import gzip
import itertools
import math
import os

import numpy as np
import pytest
import tensorflow as tf

from lingvo_lite.decoding.language_models import arpa, fusion, ngram

TOKENS = ['', '', '', '\ufffd', ' ', 'a', 'b', 'c']
BOS, EOS = 1, 2


class Oracle:
    """P(word | context) by the definition."""

    def __init__(self, entries, order):
        self.entries, self.order = entries, order  # {ngram: (log10 p, log10 backoff)}

    def log_prob(self, context, word):
        if (word,) not in self.entries:
            word = '<unk>'
        context = tuple(w if (w,) in self.entries else '<unk>' for w in context)
        context = context[max(0, len(context) - self.order + 1) :]
        if (*context, word) in self.entries:
            return self.entries[(*context, word)][0] * math.log(10)
        if not context:
            return -100 * math.log(10)
        backoff = self.entries.get(context, (0, 0))[1] * math.log(10)
        return backoff + self.log_prob(context[1:], word)

    def text(self, words):
        """log P of a whole text."""
        words = ['<s>', *words, '</s>']
        return sum(self.log_prob(words[:i], words[i]) for i in range(1, len(words)))


def make(words, order, seed=0, share=0.4):
    """Random entries; each n-gram has its context."""
    rng = np.random.RandomState(seed)
    entries = {}
    for word in words:
        entries[(word,)] = [-99.0 if word == '<s>' else -rng.uniform(0.3, 2), 0.0]
    level = [(word,) for word in words if word != '</s>']
    for _ in range(2, order + 1):
        following = []
        for context in level:
            for word in words:
                if word != '<s>' and rng.uniform() < share:
                    entries[(*context, word)] = [-rng.uniform(0.1, 1.5), 0.0]
                    following.append((*context, word))
            entries[context][1] = -rng.uniform(0.1, 0.8)
        level = [each for each in following if each[-1] != '</s>']
    return Oracle({key: tuple(value) for key, value in entries.items()}, order)


def written(oracle):
    """The text of an ARPA file."""
    by_order = [[k for k in oracle.entries if len(k) == n + 1] for n in range(oracle.order)]
    lines = ['', '\\data\\', *(f'ngram {n}={len(keys)}' for n, keys in enumerate(by_order, 1))]
    for n, keys in enumerate(by_order, 1):
        lines += ['', f'\\{n}-grams:']
        for key in keys:
            log_prob, backoff = oracle.entries[key]
            line = f'{log_prob:.7f}\t{" ".join(key)}'
            lines.append(line if n == oracle.order or not backoff else f'{line}\t{backoff:.7f}')
    return '\n'.join([*lines, '', '\\end\\', ''])


def save(folder, text, name='lm.arpa'):
    path = folder / name
    path.write_text(text, encoding='utf-8')
    return str(path)


def tokens_of(path, tokens=TOKENS, **values):
    """A TokenNGram of a file."""
    p = ngram.TokenNGram.Params().Set(file=os.path.basename(path), **values)
    return built(p, path, tokens)


def words_of(path, tokens=TOKENS, **values):
    """A WordNGram of a file."""
    p = ngram.WordNGram.Params().Set(file=os.path.basename(path), **values)
    return built(p, path, tokens)


def built(p, path, tokens):
    folder = os.path.dirname(path)
    return p.Instantiate(
        vocabulary=fusion.Vocabulary(tokens, BOS, EOS),
        find_data=lambda name: os.path.join(folder, name),
    )


def scores(model, texts):
    """What each prefix of each text is given for its next token: [text][position][vocab]."""

    @tf.function(autograph=False)
    def Graph(ids):
        state = model.InitStates(tf.shape(ids)[0])
        found = []
        for column in tf.unstack(ids, axis=1):
            log_probs, state = model.ExtendStep(column, state)
            found.append(log_probs)
        return tf.stack(found, axis=1)

    ids = np.array([[BOS, *text] for text in texts], np.int32)
    return Graph(tf.constant(ids)).numpy()


CHARACTERS = ['<s>', '</s>', '<unk>', '<space>', 'a', 'b']  # 'c' is unknown


@pytest.mark.parametrize('order', [1, 2, 3, 4])
def test_every_prefix_gets_the_probabilities_of_the_recursion(tmp_path, order):
    oracle = make(CHARACTERS, order, seed=order)
    model = tokens_of(save(tmp_path, written(oracle)))
    texts = list(itertools.product([4, 5, 6, 7], repeat=4))
    got = scores(model, texts)
    names = {2: '</s>', 3: '<unk>', 4: '<space>', 5: 'a', 6: 'b', 7: '<unk>'}
    for row, text in enumerate(texts[::7]):
        for position in range(5):
            context = ['<s>', *(names[token] for token in text[:position])]
            expected = [oracle.log_prob(context, names[token]) for token in range(2, 8)]
            np.testing.assert_allclose(got[7 * row, position, 2:], expected, rtol=1e-5)
    assert (got[:, :, :2] <= -1e9).all()  # no padding, no <s>


def test_probabilities_that_sum_to_one_in_the_file_do_so_here(tmp_path):
    # a b over {a, b, </s>}: P(.|a) = (1/2, 1/4, 1/4), the last two by back-off.
    text = (
        '\\data\\\nngram 1=4\nngram 2=1\n\\1-grams:\n-99 <s> 0\n'
        f'{math.log10(0.25)} </s>\n{math.log10(0.5)} a {math.log10(1.0)}\n{math.log10(0.25)} b\n'
        f'\\2-grams:\n{math.log10(0.5)} a a\n\\end\\\n'
    )
    got = scores(tokens_of(save(tmp_path, text)), [[5]])
    np.testing.assert_allclose(np.exp(got[0, 1, [2, 5, 6]]), [0.25, 0.5, 0.25], rtol=1e-5)
    assert np.exp(got[0, 1, 7]) == 0  # the file has no <unk>, which is as good as impossible


WORDS = ['<s>', '</s>', '<unk>', 'a', 'ab', 'ba', 'b', 'xyz']


@pytest.mark.parametrize('order', [1, 3])
def test_a_spelled_text_gets_the_probability_of_its_words(tmp_path, order):
    oracle = make(WORDS, order, seed=order + 5)
    model = words_of(save(tmp_path, written(oracle)))
    texts = list(itertools.product([4, 5, 6, 7], repeat=5))
    got = scores(model, texts)
    seen = set()
    for row, text in enumerate(texts):
        closed = [*text, EOS]
        total = sum(got[row, i, token] for i, token in enumerate(closed))
        words = ''.join(TOKENS[token] for token in text).split()
        seen.update(words)
        np.testing.assert_allclose(total, oracle.text(words), rtol=1e-5, atol=1e-4)
    assert {'ab', 'ba', 'abc', 'b'} <= seen


def test_a_word_is_paid_where_it_ends(tmp_path):
    oracle = make(WORDS, 2, seed=3)
    model = words_of(save(tmp_path, written(oracle)))
    got = scores(model, [[5, 6, 4, 4]])[0]  # 'ab', and two spaces
    assert (got[:, 5:] == 0).all() and got[0, 4] == 0 and got[3, 4] == got[4, 4] == 0
    np.testing.assert_allclose(got[1, 4], oracle.log_prob(['<s>'], 'a'), rtol=1e-5)
    np.testing.assert_allclose(got[2, 4], oracle.log_prob(['<s>'], 'ab'), rtol=1e-5)
    np.testing.assert_allclose(got[4, EOS], oracle.log_prob(['<s>', 'ab'], '</s>'), rtol=1e-5)


def test_words_in_capitals_can_be_spelled_in_lower_case(tmp_path):
    oracle = make(['<s>', '</s>', 'AB', 'Ab', 'B'], 1, seed=2)
    path = save(tmp_path, written(oracle))
    with pytest.raises(ValueError, match=r'spell none of its words, such as .*lowercase=True'):
        words_of(path)
    got = scores(words_of(path, lowercase=True), [[5, 6]])
    best = max(oracle.log_prob([], word) for word in ('AB', 'Ab'))
    np.testing.assert_allclose(got[0, 2, 4], best, rtol=1e-5)


def test_a_zipped_file_is_read(tmp_path):
    text = written(make(CHARACTERS, 2))
    with gzip.open(tmp_path / 'lm.arpa.gz', 'wt', encoding='utf-8') as file:
        file.write(text)
    plain, zipped = arpa.Read(save(tmp_path, text)), arpa.Read(str(tmp_path / 'lm.arpa.gz'))
    assert plain.words == zipped.words
    for one, other in zip(plain.log_probs, zipped.log_probs):
        np.testing.assert_array_equal(one, other)
    (tmp_path / 'cut.gz').write_bytes((tmp_path / 'lm.arpa.gz').read_bytes()[:-30])
    with pytest.raises(arpa.ArpaError, match=r'cut.gz, line [\d,]+: cannot be read further'):
        arpa.Read(str(tmp_path / 'cut.gz'))


GOOD = [
    '\\data\\',  # line 1
    'ngram 1=4',
    'ngram 2=2',
    '\\1-grams:',
    '-99\t<s>\t-0.3',  # line 5
    '-1\t</s>',
    '-1\ta\t-0.2',
    '-1\tb',
    '\\2-grams:',
    '-0.5\t<s> a',  # line 10
    '-0.5\ta b',
    '\\end\\',
]


@pytest.mark.parametrize(
    ('line', 'text', 'error'),
    [
        (1, 'data', 'is no ARPA file: it has no line'),
        (2, 'ngram 2=4', r'line 2: ngram 1=... is expected here'),
        (2, 'ngram one=4', r'line 2: ngram 1=... is expected here'),
        (2, 'ngram 1=5', r'line 9: \\2-grams: stands here after 4 of 5 1-grams'),
        (2, 'ngram 1=3', r'line 8: more 1-grams than the 3 that \\data\\ names'),
        (4, '\\2-grams:', r'line 4: \\1-grams: is expected here'),
        (7, '0.1\ta\t-0.2', r'line 7: a log10 probability is at most 0, not 0.1'),
        (7, 'nan\ta\t-0.2', r"line 7: 'nan' is no log10 probability"),
        (7, '-1\ta\tx', r"line 7: 'x' is no back-off weight"),
        (
            7,
            '-1',
            r'line 7: a log10 probability and 1 word, perhaps a back-off weight are expected',
        ),
        (8, '-1\ta', r"line 8: the word 'a' stands twice"),
        (11, '-0.5\ta x', r"line 11: 'x' is not among the 1-grams"),
        (11, '-0.5\ta b\t-1', r'line 11: a log10 probability and 2 words are expected'),
        (11, '-0.5\t<s> a', r"line 11: '<s> a' stands twice"),
        (12, '\\3-grams:', r'line 12: \\end\\ is expected here'),
        (12, '', r'line 11: the file ends after 2 of 2 2-grams'),
        (8, '-1\t\udcff', r'line 8: not UTF-8'),
    ],
)
def test_a_damaged_file_is_an_error_with_its_line(tmp_path, line, text, error):
    lines = list(GOOD)
    lines[line - 1] = text
    path = tmp_path / 'lm.arpa'
    path.write_bytes('\n'.join(lines).encode('utf-8', 'surrogateescape'))
    with pytest.raises(arpa.ArpaError, match=error):
        tokens_of(str(path))
    assert tokens_of(save(tmp_path, '\n'.join(GOOD)))


def test_an_ngram_without_its_context_is_an_error(tmp_path):
    lines = [*GOOD[:2], 'ngram 2=1', 'ngram 3=1', *GOOD[3:10], '\\3-grams:', '-1 a b a', '\\end\\']
    with pytest.raises(arpa.ArpaError, match=r"line 13: 'a b a' needs its context 'a b' among"):
        tokens_of(save(tmp_path, '\n'.join(lines)))


def test_a_model_of_something_else_is_an_error(tmp_path):
    path = save(tmp_path, written(make(['<s>', '</s>', 'DOG', 'CAT'], 1)))
    with pytest.raises(ValueError, match=r"none of the 5 tokens .*'DOG'.*ngram.WordNGram"):
        tokens_of(path)
    pieces = ['', '', '', '\ufffd', '\u2581do', 'g']
    with pytest.raises(ValueError, match="single characters, .*'\u2581do'.*ngram.TokenNGram"):
        words_of(path, pieces)
    with pytest.raises(FileNotFoundError, match='nowhere.arpa'):
        arpa.Read(str(tmp_path / 'nowhere.arpa'))


ODD = ['a\u00a0b', '\u0085', 'a\u2028', '\x1ca', '\u3000', 'a\x0b']  # white space to Unicode


@pytest.mark.parametrize('separator', [' ', '\t', ' \t '])
def test_what_unicode_calls_white_space_separates_nothing(tmp_path, separator):
    words = ['<s>', '</s>', '<unk>', *ODD]
    oracle = make(words, 2)
    text = written(oracle).replace('\t', separator)
    model = arpa.Read(save(tmp_path, text))
    assert model.words == words
    assert len(model.ngrams[1]) == sum(len(key) == 2 for key in oracle.entries)


@pytest.mark.parametrize(
    'line', ['-0.5\u00a0a', '\u0661 a', '-1_0 a', '-0.5\x85 a', '-0.5\u3000a b']
)
def test_what_is_no_number_is_an_error_with_its_line(tmp_path, line):
    path = save(tmp_path, f'\\data\\\nngram 1=1\n\\1-grams:\n{line}\n\\end\\\n')
    with pytest.raises(arpa.ArpaError, match='line 4'):
        arpa.Read(path)


def test_a_model_that_knows_few_of_the_tokens_is_warned_about(tmp_path, caplog):
    path = save(tmp_path, written(make(CHARACTERS, 2)))
    tokens_of(path)
    assert not caplog.records
    tokens_of(path, [*TOKENS, *'defghij'])
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(f'{path} has 3 of 12 (25.0%) of the tokens of the vocabulary, such as')
    assert "it lacks '\ufffd', 'c', 'd', 'e', which count as <unk>" in said


def test_a_model_whose_words_can_hardly_be_spelled_is_warned_about(tmp_path, caplog):
    words = ['<s>', '</s>', '<unk>', 'ab', 'A', 'B', 'CAB', 'x-y']
    words_of(save(tmp_path, written(make(words, 2))), lowercase=True)
    assert not caplog.records
    words_of(save(tmp_path, written(make(words, 2))))
    (said,) = (record.getMessage() for record in caplog.records)
    assert 'The tokens spell 1 of 5 (20.0%) of the words of' in said and "'CAB', 'x-y'" in said


def test_pieces_are_tokens_as_they_are(tmp_path):
    pieces = ['', '', '', '<unk>', '\u2581do', 'g']
    oracle = make(['<s>', '</s>', '<unk>', '\u2581do', 'g'], 2, seed=8)
    model = tokens_of(save(tmp_path, written(oracle)), pieces)
    got = scores(model, [[4, 5]])[0]
    total = got[0, 4] + got[1, 5] + got[2, EOS]
    np.testing.assert_allclose(total, oracle.text(['\u2581do', 'g']), rtol=1e-5)
    assert isinstance(model, fusion.LanguageModel) and model.largest_gain == 0
