"""The magics: faces over `Deployment`, with no logic of their own."""

from tritonnb.magics import completion
from tritonnb.magics.bench import BenchMagics
from tritonnb.magics.cells import CellMagics
from tritonnb.magics.dashboards import DashboardMagics
from tritonnb.magics.magics import TritonMagics
from tritonnb.magics.registry import RegistryMagics

MAGICS = (TritonMagics, CellMagics, BenchMagics, DashboardMagics, RegistryMagics)

__all__ = ["MAGICS", "BenchMagics", "CellMagics", "DashboardMagics", "RegistryMagics", "TritonMagics", "completion"]
