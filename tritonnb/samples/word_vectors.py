"""Vectors of whole words, from the table that comes inside the package wordllama.

That table has a vector for each of the 32,000 pieces of text of a language model's tokenizer, distilled from such
models' own tables (github.com/dleemiller/WordLlama, MIT). A third of the pieces are whole words. The package is not
imported: its files are read.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonnb.errors import TritonNbError
from tritonnb.samples.extra import missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VECTORS = "weights/l2_supercat_256.safetensors"
_PIECES = "tokenizers/l2_supercat_tokenizer_config.json"
_SHA256 = {
    _VECTORS: "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    _PIECES: "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
_WIDTH = 256
_WORD_BEGINS = "▁"  # how a piece of text says that it begins a word


def word_vectors() -> dict[str, NDArray[np.float32]]:
    """Return about 10,800 words in lower case, each with its vector: float32 [256].

    The longer a vector, the more its word tells: "the" 1.6, "city" 12.8, "fox" 24.9.

    Raises
    ------
    TritonNbError
        The extra ``samples`` is not installed, or the package's files are not those that are known.
    """
    pieces = json.loads(_content(_PIECES))["model"]["vocab"]
    table = _content(_VECTORS)
    # safetensors: the header's length, the header, the numbers; here of one tensor.
    header = 8 + int.from_bytes(table[:8], "little")
    vectors = np.frombuffer(table, "<f2", offset=header).reshape(-1, _WIDTH).astype(np.float32)
    words: dict[str, NDArray[np.float32]] = {}
    for piece, row in sorted(pieces.items(), key=lambda item: item[1]):
        if piece.startswith(_WORD_BEGINS) and re.fullmatch("[a-z]+", word := piece[1:].lower()):
            words.setdefault(word, vectors[row])
    return words


def _content(name: str) -> bytes:
    package = find_spec("wordllama")
    if package is None or not package.submodule_search_locations:
        raise missing("wordllama")
    path = Path(package.submodule_search_locations[0], name)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != _SHA256[name]:
        raise TritonNbError(
            f"{path} is not the file that tritonnb knows: its SHA-256 differs.",
            hint="pip install --force-reinstall 'wordllama==0.4.0.post1'",
        )
    return content
