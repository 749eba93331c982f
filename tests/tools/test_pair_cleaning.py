"""What training pairs must be like."""

import numpy as np
import pytest

from lingvo_lite.tools import pair_cleaning
from lingvo_lite.tools.pair_cleaning import Clean, Rules


@pytest.mark.parametrize(
    ('text', 'clean'),
    [
        ('  two \t dogs\x00play\r', 'two dogs play'),
        ('u\u0308ber', 'über'),
        ('Donau\u00addampf\u200bschiff\ufeff', 'Donaudampfschiff'),
        ('line\u2028paragraph\u2029end\x85.', 'line paragraph end .'),
        ('no\u00a0break\u3000space', 'no break space'),
        ('می\u200cخواهم', 'می\u200cخواهم'),  # a joiner that means something
        ('\u200b \x07', ''),
    ],
)
def test_clean(text, clean):
    assert Clean(text) == clean
    assert Clean(clean) == clean


@pytest.mark.parametrize(
    ('source', 'target', 'reason'),
    [
        ('two dogs', 'zwei Hunde', None),
        ('', 'zwei Hunde', 'empty side'),
        ('two dogs', '', 'empty side'),
        ('', '', 'empty side'),
        ('CNN', 'CNN', 'source equals target'),
        ('a ' * 9 + 'a', 'b ' * 9 + 'b', None),
        ('a ' * 10 + 'a', 'b', 'too long'),
        ('b', 'a ' * 10 + 'a', 'too long'),
        ('a b c d', 'x y z', None),
        ('a b c d e', 'x', None),  # 2 x 1 + 3
        ('a b c d e f', 'x', 'length ratio'),
        ('x', 'a b c d e f', 'length ratio'),
    ],
)
def test_reasons(source, target, reason):
    rules = Rules(max_words=10, max_ratio=2.0, slack=3)
    assert rules.Reason(source, target) == reason


def test_of_duplicates_the_first_is_kept_and_every_reason_is_counted():
    made = [('a', 'b'), ('a', 'c'), ('', ''), ('a', 'b'), ('a b', 'c'), ('x', 'x'), ('a', 'b')]
    selection = pair_cleaning.Selection(Rules(), len(made))
    selection.Scan(iter(made))
    np.testing.assert_array_equal(selection.kept, [0, 1, 4])
    assert selection.Dropped() == {
        'empty side': 1,
        'source equals target': 1,
        'too long': 0,
        'length ratio': 0,
        'duplicate': 2,
    }


def test_a_pair_is_not_another_pair_whose_texts_join_to_the_same():
    assert pair_cleaning.PairHash('a b', 'c') != pair_cleaning.PairHash('a', 'b c')
