"""UTF-8 bytes as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from lingvo_lite.inputs.text.tokenizers.base import (
    NUM_SPECIAL,
    BaseTokenizer,
)


class ByteTokenizer(BaseTokenizer):
    """UTF-8 bytes: byte b has id b + 4. Nothing is ever unknown."""

    vocab_size = NUM_SPECIAL + 256

    def Encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        return [[byte + NUM_SPECIAL for byte in text.encode('utf-8')] for text in texts]

    def Tokens(self) -> list[str]:
        """The characters of ASCII; a byte of a longer character is '\ufffd'."""
        return [''] * NUM_SPECIAL + [chr(b) if b < 128 else '\ufffd' for b in range(256)]

    def Fingerprint(self) -> str:
        """Always the same."""
        return 'bytes-1'

    def _Text(self, ids: list[int]) -> str:
        return bytes(i - NUM_SPECIAL for i in ids if i >= NUM_SPECIAL).decode('utf-8', 'replace')
