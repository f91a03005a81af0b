"""The magics: faces over `Deployment`, with no logic of their own."""

from tritonnb.magics import completion
from tritonnb.magics.bench import BenchMagics
from tritonnb.magics.cells import CellMagics
from tritonnb.magics.magics import TritonMagics

__all__ = ["BenchMagics", "CellMagics", "TritonMagics", "completion"]
