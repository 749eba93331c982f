"""An HTML page of the worst utterances of a decoder: colored alignments, audio to listen to.

    python -m lingvo_lite.tools.wer_page RUN/decode_test/decoded-00001000.jsonl --out=worst.html \
        --audio=DATA/librispeech/test-clean

Reads the records that the decoder writes: a JSON object a line with `reference`, `hypotheses` (best
first) and, for the title of an utterance, `source` and `id`. Audio files are found below --audio by
their name without its ending, which must be that of the record's `source` or `id`. The page is one
file, audio included.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from lingvo_lite import flag_types
from lingvo_lite.metrics import wer
from lingvo_lite.runs import atomic

_TYPES = {
    '.flac': 'audio/flac',
    '.wav': 'audio/wav',
    '.mp3': 'audio/mpeg',
    '.ogg': 'audio/ogg',
    '.m4a': 'audio/mp4',
}
_LEGEND = (
    ('substitute', 'another word'),
    ('delete', 'missing'),
    ('insert', 'too much'),
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
article { border-top: 1px solid #ccc; padding: 0.7em 0; overflow-wrap: anywhere; }
h2 { font-size: 1em; margin: 0; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1em; margin: 0.4em 0; }
dt { color: #666; }
dd { margin: 0; }
mark { border-radius: 3px; padding: 0 2px; color: inherit; }
.substitute { background: #ffe08a; }
.delete { background: #ffb3b3; text-decoration: line-through; }
.insert { background: #b9d8ff; }
audio { width: 100%; height: 2.2em; }
table { border-collapse: collapse; }
td, th { padding: 0 1em 0 0; text-align: right; font-weight: normal; }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd; }
  .substitute { background: #6b5500; }
  .delete { background: #7a2020; }
  .insert { background: #1f4a7a; }
}
"""


class Utterance(NamedTuple):
    """A scored record.

    Attributes:
      title: what it is called.
      names: what its audio file may be called, without folder and ending.
      reference, hypotheses, scores: of the record.
      alignment: of the best hypothesis with the reference.
      edits: of that alignment.
    """

    title: str
    names: tuple[str, ...]
    reference: str
    hypotheses: list[str]
    scores: list[float]
    alignment: list[wer.Chunk]
    edits: wer.Edits

    @property
    def rate(self) -> float:
        """Errors over units of the reference; of an empty reference, the errors."""
        return self.edits.errors / max(1, self.edits.reference_length)


def Main(argv: Optional[Sequence[str]] = None) -> int:
    """Writes the page; returns the exit code."""
    args = Parser().parse_args(argv)
    metric = _Metric(args)
    try:
        utterances = Read(args.records, metric)
        audio = _AudioFiles(args.audio) if args.audio else {}
        page, found = Page(args.records, utterances, metric, args.worst, audio)
        atomic.Write(args.out, page)
    except (OSError, ValueError) as error:
        print(f'wer_page: {error}', file=sys.stderr)
        return 2
    shown = min(args.worst, sum(u.edits.errors > 0 for u in utterances))
    heard = f', {found} of them with audio' if args.audio else ''
    print(f'{metric.name.upper()} {metric.value:.2%}. {shown} utterances{heard} in {args.out}.')
    return 0


def Parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    parser = argparse.ArgumentParser(
        prog='wer_page',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('records', metavar='DECODED.jsonl', help='written by the decoder')
    parser.add_argument('--out', metavar='FILE', required=True, help='the page to write')
    parser.add_argument('--audio', metavar='DIR', help='where the audio files are, at any depth')
    parser.add_argument(
        '--worst',
        metavar='N',
        type=flag_types.Count,
        default=50,
        help='utterances shown (default: 50)',
    )
    parser.add_argument('--characters', action='store_true', help='compare characters, not words')
    parser.add_argument('--lowercase', action='store_true', help='case does not count')
    parser.add_argument(
        '--remove_punctuation', action='store_true', help='punctuation does not count'
    )
    return parser


def Read(path: str, metric: Any) -> list[Utterance]:
    """The records of a file, scored.

    Args:
      path: of the file.
      metric: wer.Wer or wer.Cer; updated.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if a line is no record with a reference, or there is no line.
    """
    utterances = []
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                utterances.append(_Scored(_Record(path, number, line), metric))
    if not utterances:
        raise ValueError(f'{path} holds no record.')
    return utterances


def Page(
    title: str,
    utterances: Sequence[Utterance],
    metric: Any,
    worst: int,
    audio: dict[str, str],
) -> tuple[str, int]:
    """The page, and how many of its utterances have audio.

    Args:
      title: of the page.
      utterances: all of them.
      metric: that has seen all of them.
      worst: only so many are shown, those with most errors first (of equally many, the shorter).
      audio: {name: path} of the audio files.
    """
    wrong = [u for u in utterances if u.edits.errors]
    shown = sorted(wrong, key=lambda u: (-u.edits.errors, -u.rate, u.title))[:worst]
    paths = [next((audio[name] for name in u.names if name in audio), None) for u in shown]
    between = ' ' if isinstance(metric, wer.Wer) else ''
    articles = [_Article(u, path, between) for u, path in zip(shown, paths)]
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{_Escaped(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{metric.name.upper()} {metric.value:.2%}</h1>
<p>{_Escaped(title)}</p>
{_Summary(metric)}
<p>The {len(shown):,} worst of {len(wrong):,} utterances with errors, of {len(utterances):,}:
{' '.join(f'<mark class="{kind}">{what}</mark>' for kind, what in _LEGEND)}</p>
{''.join(articles)}</body>
</html>
"""
    return text, sum(path is not None for path in paths)


def _Metric(args: argparse.Namespace) -> Any:
    kind = wer.Cer if args.characters else wer.Wer
    return kind(lowercase=args.lowercase, remove_punctuation=args.remove_punctuation)


def _Record(path: str, number: int, line: str) -> dict[str, Any]:
    """The record of a line."""
    where = f'{path}, line {number:,}'
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f'{where}: no JSON ({error}).') from None
    if not isinstance(record, dict):
        raise ValueError(f'{where}: an object is expected, not {line.strip()[:40]!r}.')
    hypotheses = record.get('hypotheses')
    if not isinstance(hypotheses, list) or not all(isinstance(h, str) for h in hypotheses):
        raise ValueError(f'{where}: the record has no list of texts `hypotheses`.')
    if not isinstance(record.get('reference'), str):
        raise ValueError(
            f'{where}: the record has no `reference`. Only what was decoded from a dataset with '
            'transcripts can be scored.'
        )
    return record


def _Scored(record: dict[str, Any], metric: Any) -> Utterance:
    best = record['hypotheses'][0] if record['hypotheses'] else ''
    metric.Update(best, record['reference'])
    alignment = wer.Align(metric.Units(record['reference']), metric.Units(best))
    known = [str(record[key]) for key in ('source', 'id') if record.get(key) not in (None, '')]
    return Utterance(
        title=' · '.join(known) or 'utterance',
        names=tuple(_Stem(name) for name in known),
        reference=record['reference'],
        hypotheses=record['hypotheses'],
        scores=[float(score) for score in record.get('scores') or []],
        alignment=alignment,
        edits=wer.Count(alignment),
    )


def _AudioFiles(folder: str) -> dict[str, str]:
    """{name without ending: path} of the audio files below a folder."""
    found: dict[str, str] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() in _TYPES:
                found.setdefault(stem, os.path.join(parent, name))
    if not found:
        raise ValueError(f'--audio: {folder} holds no audio files ({", ".join(_TYPES)}).')
    return found


def _Stem(name: str) -> str:
    stem, ending = os.path.splitext(os.path.basename(name))
    return stem if ending.lower() in _TYPES else os.path.basename(name)


def _Summary(metric: Any) -> str:
    edits = metric.edits
    rows = (
        ('substitutions', edits.substitutions),
        ('deletions', edits.deletions),
        ('insertions', edits.insertions),
        (f'reference {metric.units}', edits.reference_length),
    )
    cells = ''.join(f'<tr><th>{name}</th><td>{count:,}</td></tr>' for name, count in rows)
    return f'<table>{cells}</table>\n<p>{_Escaped(metric.signature)}</p>'


def _Article(utterance: Utterance, path: Optional[str], between: str) -> str:
    lines = [
        ('reference', _Colored(utterance.alignment, 'reference', between)),
        ('hypothesis', _Colored(utterance.alignment, 'hypothesis', between)),
    ]
    for n, text in enumerate(utterance.hypotheses[1:], 1):
        lines.append((f'{n + 1}.{_Score(utterance, n)}', _Escaped(text)))
    listed = ''.join(f'<dt>{name}</dt><dd>{text}</dd>\n' for name, text in lines)
    edits = utterance.edits
    return (
        f'<article>\n<h2>{_Escaped(utterance.title)}: {edits.errors:,} errors in '
        f'{edits.reference_length:,} ({utterance.rate:.0%}){_Score(utterance, 0)}</h2>\n'
        f'<dl>{listed}</dl>\n{_Player(path)}</article>\n'
    )


def _Score(utterance: Utterance, n: int) -> str:
    return f', score {utterance.scores[n]:.2f}' if n < len(utterance.scores) else ''


def _Colored(alignment: Sequence[wer.Chunk], side: str, between: str) -> str:
    """One side of an alignment as HTML."""
    parts = []
    for chunk in alignment:
        units = getattr(chunk, side)
        if not units:
            continue
        text = _Escaped(between.join(units))
        parts.append(text if chunk.kind == 'equal' else f'<mark class="{chunk.kind}">{text}</mark>')
    return between.join(parts) or '<i>nothing</i>'


def _Player(path: Optional[str]) -> str:
    if path is None:
        return ''
    with open(path, 'rb') as file:
        data = base64.b64encode(file.read()).decode('ascii')
    kind = _TYPES[os.path.splitext(path)[1].lower()]
    return f'<audio controls preload="none" src="data:{kind};base64,{data}"></audio>\n'


def _Escaped(text: str) -> str:
    return html.escape(text, quote=True)


if __name__ == '__main__':
    sys.exit(Main())
