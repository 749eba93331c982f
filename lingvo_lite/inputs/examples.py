"""tf.train.Example with one value a field: what the TFRecord files of the prepare tools hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

_LISTS = {bytes: 'bytes_list', str: 'bytes_list', int: 'int64_list'}
_KINDS = {'bytes_list': 'bytes', 'int64_list': 'int64', 'float_list': 'float', None: 'nothing'}


def Encode(fields: Mapping[str, Union[bytes, str, int]]) -> bytes:
    """The payload of a TFRecord: each field is a list of one value; str is written as UTF-8."""
    import tensorflow as tf

    feature = {}
    for name, value in fields.items():
        if isinstance(value, int):
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        else:
            data = value.encode('utf-8') if isinstance(value, str) else value
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def Decode(payload: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    """What `Encode` was given; further fields are left out.

    Args:
      payload: of a record.
      kinds: {field: bytes, str or int} of the fields that are wanted.

    Raises:
      ValueError: if the payload is something else; says which field is missing, of another type,
        of another number of values, or not UTF-8.
    """
    import tensorflow as tf
    from google.protobuf import message

    try:
        features = tf.train.Example.FromString(payload).features.feature
        return {name: _Value(features, name, kind) for name, kind in kinds.items()}
    except (message.DecodeError, ValueError) as error:
        raise ValueError(f'no tf.train.Example with {", ".join(kinds)}: {error}') from None


def _Value(features: Any, name: str, kind: type) -> Any:
    if name not in features:
        has = ', '.join(repr(key) for key in sorted(features)) or 'none'
        raise ValueError(f'field {name!r} is missing; it has {has}')
    found = features[name].WhichOneof('kind')
    if found != _LISTS[kind]:
        raise ValueError(f'field {name!r} holds {_KINDS[found]}, {_KINDS[_LISTS[kind]]} is wanted')
    values = getattr(features[name], found).value
    if len(values) != 1:
        raise ValueError(f'field {name!r} holds {len(values):,} values, 1 is wanted')
    if kind is not str:
        return values[0]
    try:
        return values[0].decode('utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(
            f'field {name!r} is not UTF-8 ({error.reason} at byte {error.start:,})'
        ) from None
