"""The entry-script tier: worker processes that run Azure ML's ``init()`` and ``run()`` in front of an `Endpoint`."""

from tritonnb.score.cell import ScriptCell
from tritonnb.score.plan import Plan, plan_for
from tritonnb.score.serving import Serving
from tritonnb.score.tier import ScoreTier

__all__ = ["Plan", "ScoreTier", "ScriptCell", "Serving", "plan_for"]
