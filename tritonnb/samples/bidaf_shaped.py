"""A question answerer with the inputs and outputs of BiDAF-9, as an ONNX graph.

It is not BiDAF. Nothing in it was trained on questions: it joins word vectors that others made with a few rules, and
so it knows what words mean and not what sentences say. What it shares with BiDAF (Seo et al. 2016,
github.com/onnx/models) is the plan, every context word against every query word, and the contract: four inputs of
strings, two positions as output. Where it stands, the real ``bidaf-9.onnx`` can stand, and the other way round.

The score of a context word is the product of four things:

* how much the word tells at all ("the" nothing, "fox" everything, by the length of its vector);
* that the question has not said it already, by its spelling;
* that its meaning is near that of a word of the question, or it is what the question asks for: a number for "when", a
  capital for "who" (the characters are not in lower case);
* how near it stands to words that the question speaks of.

The answer begins at the best score and goes on while the words after it have at least half of that.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# As for the classifier: read by every onnxruntime since 1.10. LabelEncoder numbers strings from ai.onnx.ml 2 on.
_OPSET = 13
_ML_OPSET = 2
_IR_VERSION = 8

_LETTERS = 16  # of each word, as in BiDAF-9
_ALIKE = 0.7  # a share of equal letters, above which two words are more and more the same ("jump", "jumped")
_NEAR = 10  # words to either side
# Lengths of vectors: up to the one a word tells nothing, from the other on all.
_TELLS_NOTHING, _TELLS_ALL = 5.0, 12.0
# What words of a question ask for: a number, a name.
_ASKS = {
    **dict.fromkeys(["when", "year", "date", "many", "much", "old", "long", "far", "tall", "high"], (1.0, 0.0)),
    **dict.fromkeys(["who", "whom", "whose", "where"], (0.0, 1.0)),
    **dict.fromkeys(["city", "country", "name"], (0.0, 0.5)),
}
_ALPHABET = string.ascii_lowercase + string.digits


def bidaf_shaped(vectors: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the question answerer.

    Parameters
    ----------
    vectors
        Words in lower case, each with its vector; all of one width.

    Returns
    -------
    onnx.ModelProto
        From ``context_word`` and ``query_word``, strings [c, 1] and [q, 1] in lower case, and ``context_char`` and
        ``query_char``, strings [c, 1, 1, 16]: the first 16 characters of each word as they were written, then "".
        To ``start_pos`` and ``end_pos``, int32 [1]: the answer is the context's words from the one to the other, both
        included.
    """
    graph = _Graph()
    context, query = (_Words(graph, side, vectors) for side in ("context", "query"))

    alike = graph.node("MatMul", context.spelling, graph.node("Transpose", query.spelling))  # [c, q], 0 to 1
    alike = graph.node("Sub", alike, graph.floats(_ALIKE))
    alike = graph.node("Relu", graph.node("Div", alike, graph.floats(1 - _ALIKE)))
    related = graph.node("Relu", graph.node("MatMul", context.meaning, graph.node("Transpose", query.meaning)))
    related = graph.node("Mul", related, query.tells)
    repeated = graph.node("ReduceMax", graph.node("Mul", alike, query.tells), axes=[1], keepdims=0)
    unsaid = graph.node("Mul", related, graph.node("Sub", graph.floats(1), alike))
    fits = graph.node("ReduceMax", unsaid, axes=[1], keepdims=0)

    asked = graph.node("Gather", graph.floats([(0.0, 0.0), *_ASKS.values()]), graph.codes(query.words, list(_ASKS)))
    asked = graph.node("ReduceMax", asked, axes=[0], keepdims=0)
    fits = graph.node("Add", fits, graph.node("MatMul", context.kind, asked))

    spoken_of = graph.node("ReduceMax", related, axes=[1], keepdims=0)
    spoken_of = graph.node("Max", repeated, graph.node("Mul", spoken_of, graph.floats(0.5)))
    spoken_of = graph.node("Reshape", spoken_of, graph.integers([1, 1, -1]))
    triangle = 1 - np.abs(np.arange(-_NEAR, _NEAR + 1)) / (_NEAR + 1)
    near = graph.node("Conv", spoken_of, graph.floats(triangle[None, None]), pads=[_NEAR, _NEAR])
    near = graph.node("Reshape", near, graph.integers([-1]))

    score = graph.node("Mul", context.tells, graph.node("Sub", graph.floats(1), repeated))
    # Added to each factor is what a word gets that has nothing of it.
    score = graph.node("Mul", score, graph.node("Add", fits, graph.floats(0.1)))
    score = graph.node("Mul", score, graph.node("Add", near, graph.floats(0.3)))
    graph.answer(score)
    return graph.model()


class _Words:
    """What is known of each word of one side, context or query: names of tensors in the graph."""

    def __init__(self, graph: _Graph, side: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        known = [*vectors, *string.punctuation, "``", "''"]  # the last two are how nltk writes quotation marks
        table = np.stack(list(vectors.values()))
        lengths = np.linalg.norm(table, axis=1, keepdims=True)
        no_meaning = np.zeros((len(known) - len(table), table.shape[1]))
        telling = np.clip((lengths[:, 0] - _TELLS_NOTHING) / (_TELLS_ALL - _TELLS_NOTHING), 0, 1)

        self.words = graph.node("Reshape", f"{side}_word", graph.integers([-1]))
        code = graph.codes(self.words, known)
        # Code 0 is a word that is not known: it has no meaning, and is so rare that it tells all.
        self.meaning = graph.node(
            "Gather", graph.floats(np.vstack([no_meaning[:1], table / lengths, no_meaning])), code
        )
        self.tells = graph.node("Gather", graph.floats([1, *telling, *no_meaning[:, 0]]), code)

        letters = graph.node("Reshape", f"{side}_char", graph.integers([-1, _LETTERS]))
        written = ["", *string.ascii_lowercase, *string.ascii_uppercase, *string.digits]
        code = graph.codes(letters, written)
        # A column for each letter, without its case, and one for all other characters; none for "".
        columns = np.eye(len(_ALPHABET) + 1)
        folded = [columns[-1], np.zeros(len(columns)), *(columns[_ALPHABET.index(one.lower())] for one in written[1:])]
        spelling = graph.node("Gather", graph.floats(folded), code)
        spelling = graph.node("Reshape", spelling, graph.integers([-1, _LETTERS * len(columns)]))
        length = graph.node("Max", graph.node("ReduceL2", spelling, axes=[1]), graph.floats(1))
        self.spelling = graph.node("Div", spelling, length)

        kinds = [(0.0, 0.0), *((one.isdigit(), one.isupper()) for one in written)]
        first = graph.node("Gather", code, graph.integers(0), axis=1)
        self.kind = graph.node("Gather", graph.floats(kinds), first)


class _Graph:
    """The nodes and constants so far; each method returns the name of what it adds."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[object, str] = {}

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def floats(self, values: Any) -> str:
        return self._constant(np.asarray(values, np.float32))

    def integers(self, values: Any) -> str:
        return self._constant(np.asarray(values, np.int64))

    def _constant(self, values: NDArray[Any]) -> str:
        # Both sides look up the same tables.
        name = self._names.setdefault((values.dtype, values.shape, values.tobytes()), f"constant_{len(self._names)}")
        self._constants[name] = numpy_helper.from_array(values, name)
        return name

    def codes(self, texts: str, known: Sequence[str]) -> str:
        """Give each string its number: from 1 on those that are known, 0 all others."""
        return self.node(
            "LabelEncoder",
            texts,
            domain="ai.onnx.ml",
            keys_strings=known,
            values_int64s=range(1, len(known) + 1),
            default_int64=0,
        )

    def answer(self, score: str) -> None:
        """Find the best score, and the last word after it up to which all have more than half of it."""
        start = self.node("ArgMax", score, axis=0)
        half = self.node("Mul", self.node("ReduceMax", score, axes=[0]), self.floats(0.5))
        places = self.node("Range", self.integers(0), self.node("Size", score), self.integers(1))
        after = self.node("Greater", places, start)
        weak = self.node("And", self.node("LessOrEqual", score, half), after)
        weak_so_far = self.node("CumSum", self.node("Cast", weak, to=TensorProto.INT64), self.integers(0))
        taken = self.node("And", after, self.node("Equal", weak_so_far, self.integers(0)))
        more = self.node("ReduceSum", self.node("Cast", taken, to=TensorProto.INT64))
        self.node("Cast", start, to=TensorProto.INT32, output="start_pos")
        self.node("Cast", self.node("Add", start, more), to=TensorProto.INT32, output="end_pos")

    def model(self) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(f"{side}_{part}", TensorProto.STRING, [side[0], *shape])
            for side in ("context", "query")
            for part, shape in (("word", [1]), ("char", [1, 1, _LETTERS]))
        ]
        outputs = [helper.make_tensor_value_info(f"{end}_pos", TensorProto.INT32, [1]) for end in ("start", "end")]
        graph = helper.make_graph(self._nodes, "bidaf_shaped", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
            ir_version=_IR_VERSION,
            producer_name="tritonnb",
        )
        onnx.checker.check_model(model, full_check=True)
        return model
