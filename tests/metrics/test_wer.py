"""Error rates are those of the edit distance, by hand."""

from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given, settings, strategies as st

from lingvo_lite.metrics import wer


def Distance(reference, hypothesis):
    """Levenshtein, from its definition."""

    @functools.cache
    def D(i, j):
        if not i or not j:
            return i + j
        same = reference[i - 1] == hypothesis[j - 1]
        return min(D(i - 1, j) + 1, D(i, j - 1) + 1, D(i - 1, j - 1) + (not same))

    return D(len(reference), len(hypothesis))


def Filled(metric, pairs):
    for reference, hypothesis in pairs:
        metric.Update(hypothesis, reference)
    return metric


REFERENCE_HYPOTHESIS = [
    ('the cat sat on', 'the hat sat'),  # 1 substitution, 1 deletion
    ('the cat sat', 'the cat sat on mats'),  # 2 insertions
    ('two', ''),  # 1 deletion
    ('all right', 'all right'),
]


def test_each_kind_of_error_is_counted():
    got = Filled(wer.Wer(), REFERENCE_HYPOTHESIS)
    assert got.edits == wer.Edits(hits=7, substitutions=1, deletions=2, insertions=2)
    assert got.value == pytest.approx(5 / 10)
    summary = json.loads(json.dumps(got.Summary()))
    signature = summary.pop('wer/signature')
    assert signature.startswith('unit:words|case:mixed|punct:yes|space:single|jiwer:')
    assert summary == {
        'wer': 0.5,
        'wer/substitutions': 1,
        'wer/deletions': 2,
        'wer/insertions': 2,
        'wer/reference_words': 10,
        'wer/utterances': 4,
        'wer/wrong_utterances': 3,
    }


def test_an_update_returns_the_errors_of_its_utterance():
    metric = wer.Wer()
    assert metric.Update('a b c', 'a x') == wer.Edits(1, 1, 0, 1)
    assert metric.Update('a', 'a') == wer.Edits(1, 0, 0, 0)


def test_characters_count_one_space_between_words():
    got = Filled(wer.Cer(), [('ab  cd ', 'abcd')])
    assert got.edits == wer.Edits(hits=4, substitutions=0, deletions=1, insertions=0)
    assert got.Summary()['cer/reference_characters'] == 5


@pytest.mark.parametrize('kind', [wer.Wer, wer.Cer])
def test_an_empty_reference_makes_insertions_of_all_that_is_heard(kind):
    metric = kind()
    assert metric.Update('', '').errors == 0
    assert metric.value == 0.0
    edits = metric.Update('a b', '  ')
    assert edits.insertions == edits.errors == len(metric.Units('a b'))
    assert metric.value == edits.errors  # there is no unit to divide by
    metric.Update('x', 'x')
    assert metric.value == edits.errors / 1


@pytest.mark.parametrize('kind', [wer.Wer, wer.Cer])
def test_merged_equals_one_that_saw_all(kind):
    whole = Filled(kind(), REFERENCE_HYPOTHESIS)
    part = Filled(kind(), REFERENCE_HYPOTHESIS[:2])
    rest = Filled(kind(), REFERENCE_HYPOTHESIS[2:])
    before = rest.Summary()
    part.Merge(rest)
    assert part.Summary() == whole.Summary() != before == rest.Summary()
    mean_of_means = (Filled(kind(), REFERENCE_HYPOTHESIS[:2]).value + rest.value) / 2
    assert whole.value != pytest.approx(mean_of_means)


def test_only_the_same_normalisation_is_merged():
    with pytest.raises(ValueError, match=r'case:mixed.* and .*case:lc.* cannot be merged'):
        wer.Wer().Merge(wer.Wer(lowercase=True))
    with pytest.raises(TypeError, match='Wer .* cannot take in a Cer'):
        wer.Wer().Merge(wer.Cer('wer'))


def test_what_is_normalised():
    hypothesis, reference = 'dont stop now', "Don't stop, now!"
    assert wer.Wer().Update(hypothesis, reference).errors == 3
    assert wer.Wer(lowercase=True).Update(hypothesis, reference).errors == 3
    plain = wer.Wer(lowercase=True, remove_punctuation=True)
    assert plain.Update(hypothesis, reference).errors == 1  # dont, don't
    assert plain.Update("don't stop now", reference).errors == 0
    assert 'case:lc|punct:no' in plain.signature


def test_the_apostrophe_of_a_word_is_no_punctuation():
    assert wer.without_punctuation("'rock’n roll' – it's!").split() == ["rock'n", 'roll', "it's"]


def test_nothing_seen_has_no_value():
    assert wer.Wer().Summary() == {}
    with pytest.raises(ValueError, match="Wer 'wer' has no value"):
        wer.Wer().value  # noqa: B018


def test_what_is_no_text_is_an_error():
    for hypothesis, reference in ((['a'], 'a'), ('a', [3]), (b'a', 'a')):
        with pytest.raises(TypeError, match=r'wer compares texts \(str\)'):
            wer.Wer().Update(hypothesis, reference)


WORDS = st.lists(st.sampled_from(['a', 'b', 'c c', ' ', '']), max_size=7)


@settings(deadline=None, max_examples=150)
@given(reference=WORDS, hypothesis=WORDS)
def test_an_alignment_holds_both_sides_and_is_the_shortest(reference, hypothesis):
    chunks = wer.Align(reference, hypothesis)
    assert [unit for chunk in chunks for unit in chunk.reference] == reference
    assert [unit for chunk in chunks for unit in chunk.hypothesis] == hypothesis
    for chunk in chunks:
        assert (chunk.kind == 'equal') == (chunk.reference == chunk.hypothesis)
        assert bool(chunk.reference) == (chunk.kind != 'insert')
        assert bool(chunk.hypothesis) == (chunk.kind != 'delete')
        if chunk.kind == 'substitute':
            assert len(chunk.reference) == len(chunk.hypothesis)
    assert wer.Count(chunks).errors == Distance(reference, hypothesis)
    assert wer.Count(chunks).reference_length == len(reference)
