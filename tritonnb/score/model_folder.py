"""``AZUREML_MODEL_DIR``: where an entry script finds the files of the models, as in Azure ML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonnb.registry.references import find

if TYPE_CHECKING:
    from pathlib import Path

    from tritonnb.spec import Spec


def model_folder(spec: Spec, run: Path, tier: Path) -> Path:
    """Return the folder below which a script finds what was deployed.

    Of one registered model it is the version's folder (Azure ML's ``azureml-models/NAME/VERSION``), of several the
    folder of them all, so that ``NAME/VERSION/...`` follows. Of a path that was given it is the folder in which that
    lies, as if it had been registered: of ``models`` the script's ``AZUREML_MODEL_DIR/models/triton/...`` is there.

    Parameters
    ----------
    spec
        What is served.
    run
        The folder of Triton's server, which holds models that are in no file as ``models/NAME/1``.
    tier
        The tier's folder, where what lies in several folders is brought together by links.
    """
    paths = [*spec.repository, *(source.path for source in spec.models.values())]
    registered = [find(str(path)) for path in paths if not path.is_absolute()]
    given = [path for path in paths if path.is_absolute()]
    if not paths:
        return run
    if not given:
        return registered[0].folder if len(set(registered)) == 1 else registered[0].folder.parent.parent
    if not registered and len({path.parent for path in given}) == 1:
        return given[0].parent
    together = tier / "models"
    for model in registered:
        _link(together / model.name / str(model.version), model.folder)
    for path in given:
        _link(together / path.name, path)
    return together


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():  # of a plan before
        link.unlink()
    link.symlink_to(target)
