"""The magics: faces over `Deployment`, with no logic of their own."""

from tritonnb.magics import completion
from tritonnb.magics.cells import CellMagics
from tritonnb.magics.magics import TritonMagics

__all__ = ["CellMagics", "TritonMagics", "completion"]
