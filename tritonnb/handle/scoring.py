"""The part of a deployment's handle that is about its entry script, in Azure ML's words."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tritonnb import records
from tritonnb.errors import DeploymentError, EntryScriptError, ServerError, SpecError
from tritonnb.handle.cells import no_python
from tritonnb.handle.run import Run, new_key
from tritonnb.handle.served import Served
from tritonnb.score import ScriptCell, Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from tritonnb.measure.report import Report
    from tritonnb.render.progress import Progress
    from tritonnb.score import ScoreTier
    from tritonnb.spec import Spec

_TRITON = "triton"


class Scoring(Served):
    """The part of a deployment's handle that is about its entry script."""

    _run: Run

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """What is served and how."""

    @abstractmethod
    def _change(self, what: str) -> AbstractContextManager[Progress]:
        """Keep others from the deployment during a change; gives what is to be told how that goes."""

    @abstractmethod
    def _replace_run(self, spec: Spec, key: str, timeout: float | None, each: Callable[[], None]) -> None:
        """Put a new server in the place of the running one."""

    # Addresses and keys -----------------------------------------------------------------------------------------------

    @property
    def scoring_uri(self) -> str:
        """Where a caller sends: ``/score`` where there is an entry script, else the server itself."""
        tier = self._run.script.tier
        return f"{tier.url}/score" if tier else self.url

    @property
    def swagger_uri(self) -> str:
        """Where the entry script is described; empty without one."""
        tier = self._run.script.tier
        return f"{tier.url}/swagger.json" if tier else ""

    def get_keys(self) -> tuple[str, ...]:
        """Return the bearer keys: of ``/score`` a primary and a secondary one, where it asks for one; else Triton's."""
        tier = self._run.script.tier
        return tier.keys if tier and tier.plan.auth else (self._run.key,)

    def regen_key(self, key: str = "Primary", *, timeout: float | None = 300) -> None:
        """Replace a bearer key.

        Those of ``/score`` are replaced at once. Triton's own needs a new server, which is started as `update` starts
        one.

        Parameters
        ----------
        key
            Azure ML's name of the key: ``Primary`` or ``Secondary`` of an entry script that asks for one, else
            ``Primary`` for Triton's. ``Triton`` is always Triton's own.
        timeout
            How long to wait for a new server, in seconds.

        Raises
        ------
        SpecError
            There is no key of this name.
        TritonNbError
            The new server failed; the old one serves, with the old key.
        """
        tier = self._run.script.tier
        names = {"primary": 0, "secondary": 1} if tier and tier.plan.auth else {}
        if tier and key.lower() in names:
            with self._change(f"A new key for {self.name!r}"):
                tier.regenerate_key(names[key.lower()])
            return
        if key.lower() != _TRITON and (names or key.lower() != "primary"):
            known = "'Primary', 'Secondary', and 'Triton' for the server's own" if names else "one, 'Primary'"
            raise SpecError(f"There is no key {key!r}.", hint=f"there is {known}.")
        with self._change(f"A new key for {self.name!r}: its server is started anew") as progress:
            self._run.client()
            self._replace_run(self.spec, new_key(), timeout, progress.tick)

    # Requests ---------------------------------------------------------------------------------------------------------

    def run(self, data: object, *, timeout: float | None = None) -> Any:
        """Send data to the entry script and return what its ``run()`` answered.

        Parameters
        ----------
        data
            Dicts, lists, numbers and numpy arrays become JSON. A text is sent as it is, and called JSON. Bytes, and the
            content of the file that a `pathlib.Path` names, are sent as they are.
        timeout
            Seconds that it may take; else the script's own ``timeout_s``.

        Returns
        -------
        Any
            JSON's values, text, or bytes, as the answer's media type says.

        Raises
        ------
        ScoringError
            The script failed, with its own traceback, or refused the request.
        DeploymentError
            There is no entry script, or it is not ready.
        """
        from tritonnb.score.asking import ask  # noqa: PLC0415  (only where there is a script)

        try:
            return ask(self._running_tier(), data, timeout=timeout)
        except ServerError as error:
            if trouble := self._run.trouble_behind(error):  # the script could not reach the server
                error.hint = str(trouble)
            raise

    def measure_run(self, data: object, **options: Any) -> Report:
        """Measure how fast the entry script answers, under every load. It is called once before, to see that it does.

        The load is sent by a process of its own. Ctrl-C ends it; what was measured until then is returned.

        Parameters
        ----------
        data
            What is sent, as `run` sends it: the same request again and again.
        **options
            ``concurrency=[1, 4]``, ``rates=[100]``, ``budget_s=60`` and all others of
            `tritonnb.measure.scoring.measure_run`.

        Returns
        -------
        Report
            As `measure` returns it, without the server's account of the time.

        Raises
        ------
        ScoringError
            The script failed, with its own traceback, or refused the request.
        SpecError
            A load that cannot be.
        DeploymentError
            There is no entry script, or it is not ready.
        """
        from tritonnb.measure.scoring import measure_run  # noqa: PLC0415  (measuring imports numpy)
        from tritonnb.score.asking import Body, address_of, ask  # noqa: PLC0415  (as in `run`)

        tier, body = self._running_tier(), Body.of(data)
        ask(tier, data, timeout=options.get("timeout_s"))
        told = {"name": f"{self.name}/score", "spec": self._spec_to_pass_on()}
        scoring = replace(address_of(tier), url=self.scoring_uri)
        return measure_run(scoring, body.content, headers={"Content-Type": body.kind}, **{**told, **options})

    def _spec_to_pass_on(self) -> str:
        """Return the spec for a report, which is passed on: what stands in environment variables may be secret."""
        spec = self.spec
        given = spec.environment.variables
        variables = {name: given[name] if name == "WORKER_COUNT" else "..." for name in given}
        env = dict.fromkeys(spec.server.env, "...")
        return spec.replace(server={"env": env}, environment={"variables": variables}).to_yaml()

    def _running_tier(self) -> ScoreTier:
        self._run.client()  # raises why there is nothing to talk to
        tier = self._run.script.tier
        if tier is None:
            raise DeploymentError(
                f"Deployment {self.name!r} has no entry script.",
                hint="`infer` asks its models; `%%triton_score NAME`, or `score: {entry_script: ...}`, gives it one.",
            )
        return tier

    # The script -------------------------------------------------------------------------------------------------------

    def write_score(self, code: str, *, pip: Sequence[str] = (), auth: bool | None = None, **options: Any) -> Serving:
        """Write the entry script and start it at once, as ``%%triton_score`` does.

        It is kept with the deployment, in the place of the spec's, and outlives `update` and `restart`. Called again it
        replaces the script: new workers take over once they are ready, and no request is dropped.

        Parameters
        ----------
        code
            The ``score.py``, with ``init()`` and ``run(data)``.
        pip
            Packages that it needs beside those of the spec's ``environment``.
        auth
            Whether ``/score`` asks for a key; else as the spec says.
        **options
            The keys of the spec's ``score`` section: ``workers``, ``threads``, ``port`` (0: a free one),
            ``timeout_s``, ``source_directory`` (else the current folder; its modules can be imported) and so on.

        Returns
        -------
        Serving
            Where it answers, and how it is served.

        Raises
        ------
        EntryScriptError
            The code is no Python, or could not be started; names the code's own line. The script of before goes on.
        SpecError
            There is no such option, or it cannot have this value.
        PortInUseError
            The port is taken.
        """
        try:
            compile(code, "<cell>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            raise EntryScriptError(f"The entry script, {no_python(error)}", hint="nothing was changed.") from error
        cell = ScriptCell.of(code, pip=pip, auth=auth, **options)
        with self._change(f"Starting the entry script of {self.name!r}") as progress:
            self._run.client()
            self._run.script.prepare(self.spec, progress.report, cell)
            progress.report("waiting for init()", None)
            self._run.serve_script(progress.tick, cell=cell)
        plan = self._running_tier().plan
        return Serving(
            self.name, self.scoring_uri, self.swagger_uri, plan.workers, plan.threads, plan.timeout_s, plan.auth
        )

    def serialize(self) -> dict[str, Any]:
        """Return what the deployment is, as Azure ML's dict of a local web service; never a key."""
        record = records.record_of(self.name)
        state = self.state
        created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(record.created)) if record else None
        return {
            "name": self.name,
            "tags": {},
            "properties": {},
            "state": _AZURE_STATES.get(state, state),
            "createdTime": created,
            "updatedTime": None,
            "error": str(self._run.error) if self._run.error else None,
            "computeType": "Local",
            "scoringUri": self.scoring_uri,
            "swaggerUri": self.swagger_uri or None,
            "port": urlsplit(self.scoring_uri).port,
        }


_AZURE_STATES = {"starting": "deploying", "ready": "running", "degraded": "running", "stopped": "deleted"}
