"""The entry script of a deployment and the tier that runs it, which outlives a change of Triton's server."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tritonnb import records
from tritonnb.environments import overlay
from tritonnb.errors import DeploymentError, TritonNbError
from tritonnb.score import ScoreTier, ScriptCell, plan_for
from tritonnb.score.plan import check, score_of
from tritonnb.score.tier import new_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tritonnb.endpoint import Endpoint
    from tritonnb.environments import EngineEnvironment, Overlay, Report
    from tritonnb.score import Plan
    from tritonnb.spec import Spec


@dataclass(frozen=True)
class Behind:
    """The server that an entry script asks.

    Parameters
    ----------
    spec
        What is served and how.
    endpoint
        Where Triton answers.
    folder
        The folder of its run.
    """

    spec: Spec
    endpoint: Endpoint
    folder: Path


class EntryScript:
    """The entry script of a deployment: of its spec, or of a cell, or none.

    Parameters
    ----------
    deployment
        The deployment's name.
    tier
        The folder of the tier that runs it already.
    """

    def __init__(self, deployment: str, tier: Path | None = None) -> None:
        self._deployment = deployment
        self._tier = ScoreTier(tier) if tier else None
        self._changing = threading.RLock()
        self._ended = threading.Event()
        self._passing_over_cell = False

    @property
    def folder(self) -> Path | None:
        """The tier's folder, also of one that is still to be started; None without a script."""
        return self._tier.folder if self._tier else None

    @property
    def tier(self) -> ScoreTier | None:
        """The tier that runs the script; None where there is no script, or it is not started yet."""
        if not (self._tier and self._tier.started):
            self._look_again()
        return self._tier if self._tier and self._tier.started else None

    def _look_again(self) -> None:
        """Learn from the record of what another notebook has done: a kept deployment is everybody's."""
        record = records.record_of(self._deployment)
        if record and record.tier and not (self._tier and str(self._tier.folder) == record.tier):
            self._tier = ScoreTier(Path(record.tier))

    @property
    def cell(self) -> ScriptCell | None:
        """The cell that the script was written in, where it was."""
        kept = ScriptCell.read(self._tier.folder) if self._tier and not self._passing_over_cell else None
        return kept[0] if kept else None

    @contextmanager
    def passing_over_cell(self) -> Iterator[None]:
        """Let the spec's script take the place of a cell's, which is forgotten at the end unless the block fails."""
        self._passing_over_cell = True
        try:
            yield
            if self._tier:
                ScriptCell.forget(self._tier.folder)
        finally:
            self._passing_over_cell = False

    def back_to_cell(self) -> None:
        """Let the cell's script count again, before a block of `passing_over_cell` fails."""
        self._passing_over_cell = False

    def expect(self, spec: Spec) -> None:
        """Choose the folder of the tier that a spec needs, so that its record names it before it is started."""
        if spec.score and not self._tier:
            self._tier = ScoreTier(records.new_tier_folder(self._deployment))

    def prepare(self, spec: Spec, report: Report, cell: ScriptCell | None = None) -> None:
        """Check that the script is there and get its environment, and tell ``report`` how that goes.

        Raises
        ------
        SpecError
            There is no such script.
        EngineError
            Its environment cannot be had.
        """
        cell = cell or self.cell
        if score := score_of(spec, cell):
            check(score, cell)
            _environment(spec, cell, report)

    def serve(
        self, behind: Behind, each: Callable[[], None], *, cell: ScriptCell | None = None, anew: bool = False
    ) -> None:
        """Have a tier run the script for a server that is up: start it, or let new workers take over.

        Parameters
        ----------
        behind
            The server.
        each
            Called again and again meanwhile; where it raises, the script of before goes on.
        cell
            The cell that is the script from now on; else what it was.
        anew
            Start new workers though the plan is the same: the script's files may have changed.

        Raises
        ------
        EntryScriptError
            It could not be started; the script of before goes on, where there was one.
        PortInUseError
            The port is taken.
        """

        def step() -> None:
            if self._ended.is_set():
                raise DeploymentError(f"Deployment {self._deployment!r} was deleted.", hint="deploy it again.")
            each()

        with self._changing:
            said = cell or self.cell
            score = score_of(behind.spec, said)
            if score is None and not self._passing_over_cell:
                return
            step()
            tier = self.tier
            try:
                if score is None:
                    self.drop()
                # Another port, or another way to end, is another tier.
                elif tier and tier.running and score.port in (0, tier.port) and behind.spec.keep == tier.kept:
                    self._reload(tier, behind, said, step, anew=anew or cell is not None)
                elif tier:
                    self._move(tier, behind, said, step)
                else:
                    self._start(behind, said, step)
            finally:  # also of one that took the place of the one that was stopped for nothing
                records.change(behind.folder, tier=str(self.folder or ""))

    def _start(self, behind: Behind, cell: ScriptCell | None, step: Callable[[], None]) -> None:
        """Start the first tier."""
        expected = self._tier
        new = self._tier = expected or ScoreTier(records.new_tier_folder(self._deployment))
        try:
            _begin(new, behind, cell, (new_key(), new_key()), step)
        except BaseException:
            if not expected:  # else its log tells more, to whoever looks at the deployment that failed
                self.drop()
            raise

    def _reload(
        self, tier: ScoreTier, behind: Behind, cell: ScriptCell | None, step: Callable[[], None], *, anew: bool
    ) -> None:
        kept = ScriptCell.read(tier.folder)
        file = kept[1] if kept and kept[0] == cell else cell.write(tier.folder) if cell else None
        plan = _plan(behind, cell, file, tier.folder)
        if anew or not replace(plan, port=tier.port).same_as(tier.plan):
            tier.reload(plan, step)
        tier.restart = _restarts(behind.spec)
        if cell and file:
            cell.keep(file)

    def _move(self, old: ScoreTier, behind: Behind, cell: ScriptCell | None, step: Callable[[], None]) -> None:
        """Put a new tier in the place of the old one, which goes on until then, unless both want the same port."""
        plan, keys, kept, restart, before = old.plan, old.keys, old.kept, old.restart, ScriptCell.read(old.folder)
        score = score_of(behind.spec, cell)
        in_place = not old.running or (score is not None and score.port in (0, plan.port))
        if in_place:
            old.stop()
        new = ScoreTier(records.new_tier_folder(self._deployment))
        try:
            _begin(new, behind, cell, keys, step, port=plan.port if in_place else None)
        except BaseException:
            new.stop()
            if in_place:
                again = self._tier = ScoreTier(records.new_tier_folder(self._deployment))
                if before:
                    file = before[0].write(again.folder)
                    before[0].keep(file)
                    plan = replace(plan, entry_script=str(file))
                again.start(plan, keys, keep=kept, restart=restart)
                with suppress(TritonNbError):  # the error that led here says more
                    again.wait(step)
            raise
        self._tier = new
        old.stop()

    def stop(self) -> None:
        """End the tier. May be called again."""
        self._ended.set()
        with self._changing:
            if self._tier:
                self._tier.stop()

    def drop(self) -> None:
        """End a tier that the deployment does not have after all."""
        if self._tier:
            self._tier.stop()
        self._tier = None

    # What it is -------------------------------------------------------------------------------------------------------

    def problem(self) -> str:
        """Return what is wrong with it, in a sentence; empty where there is none, or all its workers serve."""
        return self._tier.problem() if self.tier and self._tier else ""

    def in_words(self) -> str:
        """Return how it is, in a sentence; empty where there is none."""
        if not self.tier:
            return ""
        count = self.tier.plan.workers
        return self.problem() or f"ready, {count} worker{'' if count == 1 else 's'}"

    def settled(self) -> bool:
        """Tell whether somebody else has started the tier, and its first workers serve or have failed."""
        return self._tier is None or self._tier.settled

    def outdated(self) -> bool:
        """Tell whether its files were changed after its workers were started."""
        return bool(self.tier and self.tier.outdated)

    def slow(self) -> str:
        """Return what is still starting; empty where nothing of it is."""
        return "its entry script" if self.tier and not self.tier.settled else ""

    def logs(self, lines: int | None = None) -> str:
        """Return its log so far, or only its last lines."""
        return self._tier.logs(lines) if self._tier else ""


def _begin(
    tier: ScoreTier,
    behind: Behind,
    cell: ScriptCell | None,
    keys: tuple[str, ...],
    step: Callable[[], None],
    *,
    port: int | None = None,
) -> None:
    """Start a tier, on a port where one is given and else on the one that is said, and wait until its workers serve."""
    file = cell.write(tier.folder) if cell else None
    plan = _plan(behind, cell, file, tier.folder)
    tier.start(
        plan if port is None else replace(plan, port=port),
        keys,
        keep=behind.spec.keep,
        restart=_restarts(behind.spec),
    )
    tier.wait(step)
    if cell and file:
        cell.keep(file)


def _restarts(spec: Spec) -> bool:
    return spec.restart == "on-failure"


def _plan(behind: Behind, cell: ScriptCell | None, file: Path | None, tier: Path) -> Plan:
    return plan_for(
        behind.spec,
        (cell, file) if cell and file else None,
        environment=_environment(behind.spec, cell),
        endpoint=behind.endpoint,
        run=behind.folder,
        tier=tier,
    )


def _environment(spec: Spec, cell: ScriptCell | None, report: Report | None = None) -> EngineEnvironment | Overlay:
    """Return the Python of the workers, built first where it is missing."""
    return overlay([*spec.environment.pip, *(cell.pip if cell else ())], report)
