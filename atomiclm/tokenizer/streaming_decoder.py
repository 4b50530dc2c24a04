"""Decoding while ids are still arriving, as when a model writes."""

import codecs

from atomiclm.tokenizer.base import Tokenizer


class IncrementalDecoder:
    """Turns ids into text one by one, holding back bytes that may be the beginning of a character.

    Law: the joined results of `push` and one final `finish` are `tokenizer.decode` of all the ids.

    Args:
        tokenizer: whose ids they are.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that is certain after one more id; often empty within a character of several bytes.

        Raises:
            ValueError: the id is not in the vocabulary.
        """
        return self._utf8.decode(self.tokenizer.decode_bytes((token,)))

    def finish(self) -> str:
        """What is left (U+FFFD if a character was never completed); the decoder is then as new."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest
