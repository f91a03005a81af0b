"""What a tier is to run: the file that the tier's master reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from tritonnb.errors import SpecError, nearest
from tritonnb.score.cell import SHOWN_AS, ScriptCell
from tritonnb.score.files import read_json, write_json
from tritonnb.score.model_folder import model_folder
from tritonnb.spec_sections import Score

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tritonnb.endpoint import Endpoint
    from tritonnb.environments import EngineEnvironment, Overlay
    from tritonnb.spec import Spec

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Plan:
    """What a tier is to run and how.

    Parameters
    ----------
    python
        The interpreter of the workers.
    entry_script, shown_as
        The script's file, and what messages call it.
    source_directory
        The first folder on the script's path, and its ``AML_APP_ROOT``.
    port
        Of /score; 0: a free one.
    workers, threads
        How many processes, and how many requests each of them runs at once.
    timeout_s, init_timeout_s
        How long a request and ``init()`` may take, in seconds.
    max_body_bytes
        The largest request.
    cors_origins
        The origins whose pages may send requests.
    auth
        Whether requests need a key.
    variables
        The whole environment of the workers. Left out of the repr: it may hold secrets.
    host
        The address of /score.
    generation
        Which plan of the tier it is, from 1.
    """

    python: str
    entry_script: str
    shown_as: str
    source_directory: str
    port: int
    workers: int
    threads: int
    timeout_s: float
    init_timeout_s: float
    max_body_bytes: int
    cors_origins: tuple[str, ...]
    auth: bool
    variables: Mapping[str, str] = field(repr=False)
    host: str = HOST
    generation: int = 0

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """Return the plan of a tier's folder, or None before there is one."""
        told = read_json(folder / "plan.json")
        return told and cls(**{**told, "cors_origins": tuple(told["cors_origins"])})

    def write(self, folder: Path) -> None:
        """Write the plan into a tier's folder."""
        write_json(folder / "plan.json", asdict(self))

    def same_as(self, other: Plan | None) -> bool:
        """Tell whether workers of the other plan need not be replaced."""
        return other is not None and replace(self, generation=0) == replace(other, generation=0)


def score_of(spec: Spec, cell: ScriptCell | None) -> Score | None:
    """Return how the script of a deployment is run: by the cell, where there is one, laid over the spec."""
    if cell is None:
        return spec.score
    said = {key: getattr(spec.score, key) for key in Score.model_fields} if spec.score else {}
    return Score.model_validate({**said, "entry_script": "score.py", **cell.score})


def check(score: Score, cell: ScriptCell | None) -> None:
    """Raise `SpecError` where the script or its folder is not there; names the nearest script."""
    if not score.source_directory.is_dir():
        raise SpecError(f"There is no folder {score.source_directory}.", hint="name that of the script's modules.")
    if not (cell or script_of(score).is_file()):
        there = [each.name for each in score.source_directory.glob("*.py")]
        raise SpecError(f"There is no entry script {script_of(score)}.", hint=nearest(score.entry_script, there))


def script_of(score: Score) -> Path:
    """Return the file of a spec's entry script."""
    return score.source_directory / score.entry_script


def plan_for(
    spec: Spec,
    cell: tuple[ScriptCell, Path] | None,
    *,
    environment: EngineEnvironment | Overlay,
    endpoint: Endpoint,
    run: Path,
    tier: Path,
) -> Plan:
    """Return what the tier of a deployment with an entry script is to run.

    Parameters
    ----------
    spec
        What is served and how.
    cell
        The script's cell and the file of its code, where there is one.
    environment
        The workers' Python.
    endpoint
        Where Triton answers.
    run, tier
        The folders of Triton's server and of the tier.
    """
    said = cell[0] if cell else None
    score = score_of(spec, said)
    if score is None:
        raise SpecError(f"Deployment {spec.name!r} has no entry script.")
    workers = score.workers or int(spec.environment.variables.get("WORKER_COUNT", "1"))
    auth = spec.auth if said is None or said.auth is None else said.auth
    variables = {
        "AML_APP_ROOT": str(score.source_directory),
        "AZUREML_MODEL_DIR": str(model_folder(spec, run, tier)),
        # As tritonclient.http wants it: without a scheme.
        "TRITON_URL": endpoint.url.partition("://")[2],
        "TRITON_GRPC_URL": endpoint.grpc_url,
        "TRITON_METRICS_URL": endpoint.metrics_url,
        **({"TRITON_AUTHORIZATION": endpoint.headers["Authorization"]} if spec.auth else {}),
        **spec.environment.variables,
        "WORKER_COUNT": str(workers),
    }
    return Plan(
        python=str(environment.python),
        entry_script=str(cell[1] if cell else script_of(score)),
        shown_as=SHOWN_AS if cell else score.entry_script,
        source_directory=str(score.source_directory),
        port=score.port,
        workers=workers,
        threads=score.threads,
        timeout_s=score.timeout_s,
        init_timeout_s=score.init_timeout_s,
        max_body_bytes=round(score.max_body_mb * 2**20),
        cors_origins=score.cors_origins,
        auth=auth,
        variables=environment.variables(variables),
    )
