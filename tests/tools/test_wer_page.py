"""The page of the worst utterances."""

from __future__ import annotations

import base64
import html.parser
import json
import re

import pytest

from lingvo_lite.tools import wer_page


class Reader(html.parser.HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.marks, self.titles, self.sources, self.shown = [], [], [], [], []
        self._open = []
        self.feed(text)
        assert self._open == []  # every tag is closed

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ('meta', 'link', 'img'):
            self._open.append((tag, dict(attrs)))
        for name, value in attrs:
            if name in ('src', 'href'):
                self.sources.append(value)

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if not self._open:
            return
        tag, attrs = self._open[-1]
        if tag == 'mark':
            self.marks.append((attrs['class'], data))
        elif tag == 'h2':
            self.titles.append(data)
        if tag not in ('style', 'title'):
            self.shown.append(data)


RECORDS = [
    {'id': 0, 'source': 'u0', 'reference': 'the cat sat', 'hypotheses': ['the cat sat']},
    {
        'id': 1,
        'source': 'spk/u1.flac',
        'reference': 'the cat sat on',
        'hypotheses': ['a cat sat there on', 'the hat'],
        'scores': [-1.25, -3.5],
    },
    {'id': 2, 'source': 'u2', 'reference': 'one two three four', 'hypotheses': ['five']},
    {'id': 3, 'source': 'u3', 'reference': '', 'hypotheses': ['<script>alert("&")</script>']},
    {'id': 4, 'source': 'u4', 'reference': 'gone', 'hypotheses': []},
]


@pytest.fixture
def make(tmp_path, capsys):
    """make(records, *flags) -> (exit code, page or None, what was printed)."""

    def Make(records, *flags):
        path, out = tmp_path / 'decoded.jsonl', tmp_path / 'worst.html'
        lines = records if isinstance(records, str) else '\n'.join(map(json.dumps, records))
        path.write_text(lines, encoding='utf-8')
        code = wer_page.Main([str(path), f'--out={out}', *flags])
        printed = capsys.readouterr()
        page = out.read_text(encoding='utf-8') if out.exists() else None
        return code, page, printed.out + printed.err

    return Make


def test_the_worst_come_first_and_what_is_right_is_not_shown(make):
    code, page, printed = make(RECORDS)
    assert code == 0
    found = Reader(page)
    names = [re.match(r'\S+', title)[0] for title in found.titles]
    # 4 errors in 4; 2 in 4; then 1 in 0 and 1 in 1, by title.
    assert names == ['u2', 'spk/u1.flac', 'u3', 'u4']
    assert '4 errors in 4 (100%)' in found.titles[0]
    assert 'score -1.25' in found.titles[1] and 'score -3.50' in ' '.join(found.shown)
    assert 'WER 66.67%. 4 utterances in' in printed  # 8 of 12 words
    assert 'WER 66.67%' in found.shown
    assert len(Reader(make(RECORDS, '--worst=2')[1]).titles) == 2


def test_each_kind_of_error_has_its_color_on_its_side(make):
    marks = Reader(make([RECORDS[1]])[1]).marks[3:]  # behind the legend
    assert marks == [('substitute', 'the'), ('substitute', 'a'), ('insert', 'there')]
    marks = Reader(make([RECORDS[4]])[1]).marks[3:]
    assert marks == [('delete', 'gone')]


def test_words_of_one_letter_are_words(make):
    record = {'reference': 'a b c', 'hypotheses': ['a d e']}
    marks = Reader(make([record])[1]).marks[3:]
    assert marks == [('substitute', 'b c'), ('substitute', 'd e')]


def test_text_is_text_and_not_html(make):
    _, page, _ = make([RECORDS[3], {**RECORDS[4], 'source': '<img src=x onerror=y>'}])
    found = Reader(page)
    assert 'script' not in found.tags and 'img' not in found.tags
    assert ('insert', '<script>alert("&")</script>') in found.marks
    assert any('<img src=x onerror=y>' in title for title in found.titles)
    assert '<script' not in page


def test_audio_is_inside_of_the_page(make, tmp_path):
    folder = tmp_path / 'audio' / 'deep'
    folder.mkdir(parents=True)
    (folder / 'u1.flac').write_bytes(b'fLaC\x00\xff')
    (folder / '4.wav').write_bytes(b'RIFF')  # found by the record's id
    (folder / 'u2.txt').write_text('no audio')
    code, page, printed = make(RECORDS, f'--audio={tmp_path / "audio"}')
    assert code == 0 and '2 of them with audio' in printed
    sources = Reader(page).sources
    assert [source.partition(',')[0] for source in sources] == [
        'data:audio/flac;base64',
        'data:audio/wav;base64',
    ]
    assert base64.b64decode(sources[0].partition(',')[2]) == b'fLaC\x00\xff'


def test_the_page_needs_nothing_from_outside(make):
    page = make(RECORDS)[1]
    assert Reader(page).sources == []
    assert not re.search(r'https?://|@import|url\(', page)


def test_characters_case_and_punctuation_as_asked(make):
    record = {'reference': 'Ab, c', 'hypotheses': ['ab d']}
    assert Reader(make([record])[1]).marks[3:] == [('substitute', 'Ab, c'), ('substitute', 'ab d')]
    flags = ('--characters', '--lowercase', '--remove_punctuation')
    _, page, printed = make([record], *flags)
    assert Reader(page).marks[3:] == [('substitute', 'c'), ('substitute', 'd')]
    assert 'CER 25.00%' in printed
    assert 'unit:characters|case:lc|punct:no' in page


def test_no_errors_make_an_empty_page(make):
    code, page, printed = make(RECORDS[:1])
    assert code == 0 and Reader(page).titles == [] and '0 utterances' in printed


@pytest.mark.parametrize(
    ('records', 'error'),
    [
        ('', r'decoded.jsonl holds no record'),
        ('{"reference": "a", "hypotheses": ["a"]}\n{"ref', r'line 2: no JSON'),
        ('[1]', r"line 1: an object is expected, not '\[1\]'"),
        ([{'hypotheses': ['a']}], r'line 1: the record has no `reference`'),
        ([{'reference': 'a', 'hypotheses': 'a'}], r'line 1: .* no list of texts `hypotheses`'),
    ],
)
def test_what_is_no_file_of_records_is_an_error(make, records, error):
    code, page, printed = make(records)
    assert code == 2 and page is None
    assert re.search(error, printed)


def test_missing_files_are_errors(make, tmp_path, capsys):
    assert wer_page.Main([str(tmp_path / 'none.jsonl'), f'--out={tmp_path}/x.html']) == 2
    assert 'none.jsonl' in capsys.readouterr().err
    code, _, printed = make(RECORDS, f'--audio={tmp_path / "nowhere"}')
    assert code == 2 and 'holds no audio files' in printed
