"""Corpus scores are sacrebleu's, with its signature."""

from __future__ import annotations

import json

import pytest
import sacrebleu

from lingvo_lite.metrics import bleu

HYPS = ['The cat sat on the mat.', 'Hello, world!', 'two men are walking on a street', '']
REFS = ['The cat is on the mat.', 'Hello, world!', 'Two men walk along the street.', 'A dog.']
MORE = ['A cat sat on the mat.', 'Hi there, world!', 'Two men are walking in a street.', 'Dogs.']


def Filled(metric, start=0, end=4):
    for hyp, ref in zip(HYPS[start:end], REFS[start:end]):
        metric.Update(hyp, ref)
    return metric


def test_equals_sacrebleu_with_its_signature():
    got = Filled(bleu.CorpusBleu())
    assert got.value == pytest.approx(sacrebleu.corpus_bleu(HYPS, [REFS]).score)
    assert 10 < got.value < 90
    version = sacrebleu.__version__
    assert got.signature == f'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}'
    chrf = Filled(bleu.ChrF())
    assert chrf.value == pytest.approx(sacrebleu.corpus_chrf(HYPS, [REFS]).score)
    assert chrf.signature.startswith('nrefs:1|case:mixed|eff:yes|nc:6|nw:0|')


def test_summary_holds_the_score_and_how_it_was_computed():
    got = Filled(bleu.CorpusBleu('bleu_dev'))
    assert json.loads(json.dumps(got.Summary())) == {
        'bleu_dev': got.value,
        'bleu_dev/signature': got.signature,
    }


@pytest.mark.parametrize('kind', [bleu.CorpusBleu, bleu.ChrF])
def test_merged_equals_one_that_saw_all(kind):
    whole, part = Filled(kind()), Filled(kind(), 0, 1)
    before = part.value
    rest = Filled(kind(), 1, 4)
    part.Merge(rest)
    assert part.value == whole.value != before
    part.Update('more', 'text')
    assert rest.value == Filled(kind(), 1, 4).value
    assert part.value != whole.value


def test_several_references():
    got = bleu.CorpusBleu()
    for hyp, *refs in zip(HYPS, REFS, MORE):
        got.Update(hyp, refs)
    assert got.value == pytest.approx(sacrebleu.corpus_bleu(HYPS, [REFS, MORE]).score)
    assert got.signature.startswith('nrefs:2|')
    got.Update('One more.', 'One more.')
    expected = sacrebleu.corpus_bleu(
        [*HYPS, 'One more.'], [[*REFS, 'One more.'], [*MORE, None]]
    ).score
    assert got.value == pytest.approx(expected)
    assert got.signature.startswith('nrefs:var|')


@pytest.mark.parametrize('kind', [bleu.CorpusBleu, bleu.ChrF])
def test_empty_hypotheses_count_as_misses(kind):
    only_empty = kind()
    only_empty.Update('', 'A dog.')
    assert only_empty.value == 0.0
    assert Filled(kind()).value < Filled(kind(), 0, 3).value


def test_options_change_score_and_signature():
    lower = Filled(bleu.CorpusBleu(lowercase=True))
    assert lower.value > Filled(bleu.CorpusBleu()).value
    assert 'case:lc' in lower.signature
    assert 'tok:char' in Filled(bleu.CorpusBleu(tokenize='char')).signature
    assert 'nw:2' in Filled(bleu.ChrF(word_order=2)).signature
    with pytest.raises(ValueError, match='cannot be merged'):
        lower.Merge(bleu.CorpusBleu())


def test_what_is_no_text_is_an_error():
    for hyp, ref in ((['a', 'b'], 'a b'), ('a b', [3, 4]), (b'a b', 'a b')):
        with pytest.raises(TypeError, match='bleu scores detokenized text'):
            bleu.CorpusBleu().Update(hyp, ref)
    with pytest.raises(ValueError, match="no reference for 'a b'"):
        bleu.CorpusBleu().Update('a b', [])
