"""Text to ids and back, training, sampling, and what goes wrong."""

import os

import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite import hyperparams
from lingvo_lite.inputs.text import tokenizers

WORDS = 'the old man and a young dog walk over small green hills towards some quiet water'.split()
LINES = [' '.join(WORDS[(i * k) % 15] for k in range(1, 9)) for i in range(1, 200)]


@pytest.fixture
def corpus(data_folder):
    (data_folder / 'train.txt').write_text('\n'.join(LINES) + '\n', encoding='utf-8')
    return 'train.txt'


def SentencePiece(corpus, **kwargs):
    p = tokenizers.SentencePieceTokenizer.Params()
    return p.Set(**{'vocab_size': 36, 'train_files': [corpus], 'model_type': 'bpe', **kwargs})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_categories=['Cs']))))
def test_bytes_round_trip(texts):
    tokenizer = tokenizers.ByteTokenizer.Params().Instantiate()
    ids = tokenizer.Encode(texts)
    assert [len(row) for row in ids] == [len(text.encode()) for text in texts]
    assert all(4 <= i < tokenizer.vocab_size for row in ids for i in row)
    assert tokenizer.Decode(ids) == texts


def test_characters_listed_and_collected(corpus):
    listed = tokenizers.CharacterTokenizer.Params().Set(characters='cba ').Instantiate()
    assert listed.vocab_size == 8
    assert listed.Encode(['ab x']) == [[5, 6, 4, 3]]
    assert listed.Decode([[5, 6, 4, 3], [5, 8]]) == ['ab \ufffd', 'a\ufffd']
    found = tokenizers.CharacterTokenizer.Params().Set(train_files=[corpus]).Instantiate()
    assert found.vocab_size == 4 + len(set(''.join(LINES)))
    assert found.Decode(found.Encode(LINES)) == LINES
    assert found.Fingerprint() != listed.Fingerprint()


def test_words():
    p = tokenizers.WordTokenizer.Params().Set(words=['one', 'two'])
    tokenizer = p.Instantiate()
    assert tokenizer.vocab_size == 6
    assert tokenizer.Encode(['two  one ten', '']) == [[5, 4, 3], []]
    assert tokenizer.Decode([[1, 5, 4, 3, 2, 4], [6], []]) == ['two one \ufffd', '\ufffd', '']
    other = tokenizers.WordTokenizer.Params().Set(words=['two', 'one']).Instantiate()
    assert other.Fingerprint() != tokenizer.Fingerprint()
    for words in ([], ['a', 'a'], ['a b'], ['']):
        with pytest.raises(hyperparams.ConfigError, match='words'):
            tokenizers.WordTokenizer.Params().Set(words=words).Instantiate()


def test_a_word_may_hold_what_unicode_calls_white_space():
    words = ['New\u00a0York', '\u0085', 'a\u2028b', '\x1c', '\u3000']
    tokenizer = tokenizers.WordTokenizer.Params().Set(words=words).Instantiate()
    assert tokenizer.Encode([' '.join(words), '\t'.join(words), 'New York']) == [
        [4, 5, 6, 7, 8],
        [4, 5, 6, 7, 8],
        [3, 3],
    ]
    assert tokenizer.Decode([[4, 6]]) == ['New\u00a0York a\u2028b']


@pytest.mark.parametrize('model_type', ['bpe', 'unigram'])
def test_sentencepiece_trains_itself_and_round_trips(corpus, model_type):
    tokenizer = SentencePiece(corpus, model_type=model_type).Instantiate()
    ids = tokenizer.Encode(LINES)
    assert tokenizer.vocab_size == 36
    assert all(4 <= i < 36 for row in ids for i in row)
    assert tokenizer.Decode(ids) == LINES
    assert sum(map(len, ids)) < 0.9 * sum(map(len, LINES))  # pieces are longer than characters


def test_training_is_deterministic_and_cached(corpus, cache_folder):
    first = SentencePiece(corpus).Instantiate()
    (model,) = (cache_folder / 'tokenizers').glob('*.model')
    content = model.read_bytes()
    made = model.stat().st_mtime_ns
    SentencePiece(corpus).Instantiate()
    assert model.stat().st_mtime_ns == made
    model.unlink()
    again = SentencePiece(corpus).Instantiate()
    assert model.read_bytes() == content
    assert again.Fingerprint() == first.Fingerprint()


def test_the_cache_tells_text_and_params_apart(corpus, data_folder, cache_folder):
    SentencePiece(corpus).Instantiate()
    SentencePiece(corpus, vocab_size=38).Instantiate()
    (data_folder / corpus).write_text('\n'.join(LINES[:150]) + '\n')
    SentencePiece(corpus).Instantiate()
    assert len(list((cache_folder / 'tokenizers').glob('*.model'))) == 3


def test_decode_stops_at_the_end_and_drops_padding(corpus):
    tokenizer = SentencePiece(corpus).Instantiate()
    (ids,) = tokenizer.Encode(['the old man'])
    assert tokenizer.Decode([[1, *ids, 2, *ids], [*ids, 0, 0]]) == ['the old man'] * 2
    assert tokenizer.Decode([[], [2]]) == ['', '']


@pytest.mark.parametrize('model_type', ['bpe', 'unigram'])
def test_sampling_depends_on_seed_and_text_alone(corpus, model_type):
    p = SentencePiece(corpus, model_type=model_type, sampling_alpha=0.3)
    tokenizer = p.Instantiate()
    texts = LINES[:20]
    together = tokenizer.Sample(texts, range(20))
    alone = [tokenizer.Sample([text], [seed])[0] for seed, text in enumerate(texts)][::-1][::-1]
    assert together == alone == tokenizer.Sample(texts, range(20))
    assert together != tokenizer.Sample(texts, range(100, 120))
    assert together != tokenizer.Encode(texts)
    assert tokenizer.Decode(together) == texts
    assert tokenizer.samples and not SentencePiece(corpus).Instantiate().samples


def test_sample_seeds_are_a_function_of_id_and_key():
    seeds = tokenizers.SampleSeeds(range(1000), 7, 0)
    assert tokenizers.SampleSeeds([5, 3], 7, 0) == [seeds[5], seeds[3]]
    assert len(set(seeds) | set(tokenizers.SampleSeeds(range(1000), 7, 1))) == 2000


def test_a_missing_vocabulary(data_folder):
    p = tokenizers.SentencePieceTokenizer.Params()
    p.Set(vocab_size=60, model_file='wmt/spm.model', prepared_by='tools/prepare_wmt.py')
    with pytest.raises(FileNotFoundError) as error:
        p.Instantiate()
    for part in ("'wmt/spm.model'", str(data_folder), 'tools/prepare_wmt.py makes this file'):
        assert part in str(error.value)


def test_a_vocabulary_that_is_none(data_folder):
    (data_folder / 'spm.model').write_bytes(b'no model')
    p = tokenizers.SentencePieceTokenizer.Params().Set(vocab_size=60, model_file='spm.model')
    with pytest.raises(ValueError, match=r'spm\.model is no SentencePiece model'):
        p.Instantiate()


def test_a_vocabulary_of_another_size(corpus, data_folder):
    model = tokenizers.TrainSentencePiece(LINES, 60, 'bpe')
    (data_folder / 'spm.model').write_bytes(model)
    p = tokenizers.SentencePieceTokenizer.Params().Set(model_file='spm.model', vocab_size=60)
    assert p.Instantiate().vocab_size == 60
    with pytest.raises(hyperparams.ConfigError, match=r'vocab_size=61, but .* has 60 pieces'):
        p.Set(vocab_size=61).Instantiate()


@pytest.mark.parametrize(
    'size, text', [(9999, 'Largest that works: [0-9]+'), (8, 'Smallest that works: [0-9]+')]
)
def test_sizes_that_the_text_does_not_allow(corpus, cache_folder, size, text):
    with pytest.raises(hyperparams.ConfigError, match=text):
        SentencePiece(corpus, vocab_size=size).Instantiate()
    assert not [n for n in os.listdir(cache_folder / 'tokenizers') if 'model' in n[-6:]]


def test_no_text_to_train_on():
    with pytest.raises(ValueError, match='no text to train'):
        tokenizers.TrainSentencePiece(['', '  '], 60)


@pytest.mark.parametrize(
    'values, text',
    [
        (dict(), 'either model_file or train_files'),
        (dict(model_file='a', train_files=['b']), 'either model_file or train_files'),
        (
            dict(model_file='a', sampling_alpha=1.5),
            '=1.5 must be at least 0 and at most 1',
        ),
    ],
)
def test_params_that_do_not_fit(values, text):
    p = tokenizers.SentencePieceTokenizer.Params().Set(vocab_size=60, **values)
    with pytest.raises(hyperparams.ConfigError, match=text):
        p.Instantiate()


def test_tokens_are_the_texts_of_ids(corpus):
    words = tokenizers.WordTokenizer.Params().Set(words=['one', 'two']).Instantiate()
    assert words.Tokens() == ['', '', '', ' \ufffd', ' one', ' two']
    characters = tokenizers.CharacterTokenizer.Params().Set(characters='ba ').Instantiate()
    assert characters.Tokens() == ['', '', '', '\ufffd', ' ', 'a', 'b']
    plain = tokenizers.ByteTokenizer.Params().Instantiate()
    assert plain.Tokens()[4 + ord('a')] == 'a' and plain.Tokens()[4 + 200] == '\ufffd'
    pieces = SentencePiece(corpus).Instantiate()
    for tokenizer in (words, characters, plain, pieces):
        tokens = tokenizer.Tokens()
        assert len(tokens) == tokenizer.vocab_size and tokens[:3] == [''] * 3
        assert all(tokens[4:])
    text = 'the old man'
    ids = pieces.Encode([text])[0]
    assert ''.join(pieces.Tokens()[i] for i in ids) == '\u2581' + text.replace(' ', '\u2581')
