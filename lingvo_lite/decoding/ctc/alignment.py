"""When was it said? Time stamps of tokens and words from a CTC model's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lingvo_lite.decoding.language_models.fusion import WORD_STARTS
from lingvo_lite.nested_map import NestedMap

_NONE = -1e30


def align(
    log_probs: tf.Tensor,
    paddings: tf.Tensor,
    ids: tf.Tensor,
    lengths: tf.Tensor,
    blank_id: int = 0,
) -> NestedMap:
    """The most probable alignment of a text that is known, by Viterbi.

    An alignment goes through the states  blank, token 1, blank, token 2, ..., blank  (Graves et
    al. 2006, section 4.1): at each frame it stays, goes to the next state, or from a token to the
    next one, unless both are equal.

    Args:
      log_probs: float32 [batch, time, vocab].
      paddings: [batch, time], 1.0 behind the last frame.
      ids: int32 [batch, tokens], the text: the best hypothesis, say.
      lengths: int32 [batch], its length.
      blank_id: of the blank.

    Returns:
      NestedMap(
        first, last: int32 [batch, tokens], the first and last frame of each token; -1 behind the
          end of the text, and everywhere if no alignment is possible.
        score: float32 [batch], log-probability of the alignment; -inf if none is possible).
    """
    batch, num_frames = tf.unstack(tf.shape(paddings), num=2)
    num_tokens = tf.shape(ids)[1]
    states = 2 * num_tokens + 1
    # [batch, tokens] -> [batch, states]: blank, token, blank, ...
    ids = tf.maximum(tf.cast(ids, tf.int32), 0)
    pairs = tf.stack([ids, tf.fill(tf.shape(ids), blank_id)], axis=2)
    symbols = tf.pad(
        tf.reshape(pairs, [batch, 2 * num_tokens]), [[0, 0], [1, 0]], constant_values=blank_id
    )
    skipped = tf.pad(symbols[:, :-2], [[0, 0], [2, 0]], constant_values=blank_id)[:, :states]
    can_skip = (symbols != blank_id) & (symbols != skipped)
    # [batch, time, vocab] at [batch, states] -> [batch, time, states] -> [time, batch, states]
    emitted = tf.gather(log_probs, symbols, axis=2, batch_dims=1)
    emitted = tf.transpose(emitted, [1, 0, 2])
    real = tf.transpose(paddings < 0.5)
    moves = tf.TensorArray(tf.int32, num_frames + 1, element_shape=[None, None])
    moves = moves.write(num_frames, tf.zeros([batch, states], tf.int32))
    # In front of the first frame the alignment stands in front of the first state.
    at_start = tf.tile([[0.0]], [batch, 1])
    scores = tf.concat([at_start, tf.fill([batch, states], _NONE)], axis=1)

    def Forward(
        frame: tf.Tensor, scores: tf.Tensor, moves: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        # scores: [batch, 1 + states], the first being that of the start.
        stay, step = scores[:, 1:], scores[:, :-1]
        skip = tf.pad(scores[:, :-2], [[0, 0], [1, 0]], constant_values=_NONE)
        # From the start to the first token, passing by the first blank.
        skip = tf.where(can_skip, skip, _NONE)
        options = tf.stack([stay, step, skip], axis=-1)
        best = tf.reduce_max(options, axis=-1) + emitted[frame]
        on = real[frame][:, tf.newaxis]
        following = tf.pad(tf.maximum(best, _NONE), [[0, 0], [1, 0]], constant_values=_NONE)
        move = tf.where(on, tf.argmax(options, axis=-1, output_type=tf.int32), 0)
        return frame + 1, tf.where(on, following, scores), moves.write(frame, move)

    _, scores, moves = tf.while_loop(
        lambda frame, *_: frame < num_frames, Forward, (tf.constant(0), scores, moves)
    )
    # The end: the last token, or the blank behind it. State s stands at s + 1.
    lengths = tf.cast(lengths, tf.int32)
    ends = tf.stack([2 * lengths, tf.maximum(2 * lengths - 1, 0)], axis=1)
    at_end = tf.gather(scores, ends + 1, batch_dims=1)
    score = tf.reduce_max(at_end, axis=1)
    state = tf.gather(ends, tf.argmax(at_end, axis=1, output_type=tf.int32), batch_dims=1)
    path = tf.TensorArray(tf.int32, num_frames + 1, element_shape=[None])
    path = path.write(num_frames, tf.fill([batch], -1))

    def Backward(
        frame: tf.Tensor, state: tf.Tensor, path: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        move = tf.gather(moves.read(frame), tf.maximum(state, 0), batch_dims=1)
        path = path.write(frame, tf.where(real[frame], state, -1))
        return frame - 1, state - move, path

    _, _, path = tf.while_loop(
        lambda frame, *_: frame >= 0, Backward, (num_frames - 1, state, path)
    )
    # [time + 1, batch] -> [batch, 1, time + 1] at [tokens, 1] -> [batch, tokens, time + 1]
    path = tf.transpose(path.stack())[:, tf.newaxis, :]
    possible = score > _NONE / 2
    inside = tf.range(num_tokens) < lengths[:, tf.newaxis]
    inside &= possible[:, tf.newaxis]
    said = tf.equal(path, 2 * tf.range(num_tokens)[:, tf.newaxis] + 1)
    frames = tf.range(num_frames + 1)
    first = tf.reduce_min(tf.where(said, frames, num_frames), axis=2)
    last = tf.reduce_max(tf.where(said, frames, -1), axis=2)
    return NestedMap(
        first=tf.where(inside, first, -1),
        last=tf.where(inside, last, -1),
        score=tf.where(possible, score, -float('inf')),
    )


class Word(NamedTuple):
    """A word and when it was said, in seconds from the beginning of the utterance."""

    text: str
    start_s: float
    end_s: float


def words(tokens: Sequence[str], first: np.ndarray, last: np.ndarray, frame_s: float) -> list[Word]:
    """The words of a text with their times.

    CTC models say a token in one or two frames at about its end, so the first frame of a word is
    late and the last one early by a few hundredths of a second.

    Args:
      tokens: the text of each token; a space stands between words, or a space or '\u2581' in
        front of the piece that begins one.
      first: int [tokens], the first frame of each, from `align`.
      last: int [tokens], the last frame of each.
      frame_s: seconds from one frame of the model's output to the next.

    Returns:
      The words in order, each from the beginning of its first frame to the end of its last one.
    """
    found: list[Word] = []
    starts = True
    for token, begin, end in zip(tokens, first, last):
        starts |= token.startswith(WORD_STARTS)
        text = token.strip(''.join(WORD_STARTS))
        if not text:
            continue
        if starts:
            found.append(Word('', float(begin) * frame_s, 0.0))
        word = found[-1]
        found[-1] = Word(word.text + text, word.start_s, (float(end) + 1.0) * frame_s)
        starts = False
    return found
