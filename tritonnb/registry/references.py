"""Registered models by what they are called: ``NAME``, ``NAME:VERSION`` and ``NAME:latest``, in calls and in specs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonnb.errors import RegistryError, RepositoryError, TritonNbError, nearest
from tritonnb.registry import store
from tritonnb.registry.model import RegisteredModel
from tritonnb.spec_sections import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from tritonnb.spec import Spec


def matching(reference: str) -> list[RegisteredModel]:
    """Return the versions of a name, or the one that the reference names.

    Raises
    ------
    RegistryError
        There is no such name or version.
    """
    name, colon, version = reference.partition(":")
    found = store.versions(name)
    if not found:
        raise RegistryError(f"No model is registered as {name!r}.", hint=_likely(name))
    if not colon:
        return found
    if version == "latest":
        return found[-1:]
    wanted = [model for model in found if str(model.version) == version]
    if not wanted:
        there = ", ".join(str(model.version) for model in found)
        raise RegistryError(f"{name!r} has no version {version!r}.", hint=f"registered versions: {there}.")
    return wanted


def find(reference: str) -> RegisteredModel:
    """Return the version that a reference names; the latest of a name alone.

    Raises
    ------
    RegistryError
        There is no such name or version.
    """
    return matching(reference)[-1]


def in_words_of_a_spec(models: object) -> Any:
    """Return models as a spec takes them: registered ones, and names of such that are no paths, as ``NAME:VERSION``.

    Parameters
    ----------
    models
        A path, a name, a `RegisteredModel`, a list of these, or a mapping of Triton's names to them or to
        ``{"path": ..., ...}``.

    Raises
    ------
    RepositoryError
        A word that could be a name is none, and no path either.
    """
    if isinstance(models, RegisteredModel):
        return models.id
    if isinstance(models, str) and MODEL_NAME.fullmatch(models) and not Path(models).exists():
        return _by_name(models)
    if isinstance(models, list | tuple):
        return [in_words_of_a_spec(model) for model in models]
    if isinstance(models, Mapping):
        return {
            name: {**source, "path": in_words_of_a_spec(source["path"])}
            if isinstance(source, Mapping) and "path" in source
            else in_words_of_a_spec(source)
            for name, source in models.items()
        }
    return models


def _by_name(word: str) -> str:
    known = store.names()
    if word in known:
        return f"{word}:latest"
    if not known:
        return word  # nobody means the registry then: what is said of a missing path is enough
    siblings = [entry.name for entry in Path.cwd().iterdir() if not entry.name.startswith(".")]
    raise RepositoryError(
        f"There is no {word!r} in {Path.cwd()}, and no model is registered under this name.",
        hint=_likely(word, siblings),
    )


def pinned(spec: Spec) -> Spec:
    """Return a spec whose registered models are named with their version, so that it goes on meaning the same."""
    return _changed(spec, lambda path: Path(find(str(path)).id))


def located(spec: Spec) -> Spec:
    """Return a spec with the folders of registered models in the place of their names.

    Where there is an entry script, those that Triton cannot serve are left out: they are files for the script.

    Raises
    ------
    RegistryError
        One is not registered, or holds several models and is to be served under one name.
    """
    for name, source in spec.models.items():
        if not source.path.is_absolute() and len(found := find(str(source.path)).triton_models) > 1:
            raise RegistryError(
                f"Registered model {str(source.path)!r} holds {len(found)} models ({', '.join(found)}), and {name!r}"
                " can be only one of them.",
                hint=f"serve all of them with `models: [{source.path}]`.",
            )
    if spec.score:
        served = tuple(path for path in spec.repository if path.is_absolute() or find(str(path)).triton_models)
        spec = spec.model_copy(update={"repository": served})
    return _changed(spec, lambda path: find(str(path)).path)


def served_from(spec: Spec) -> dict[str, str]:
    """Return, by Triton's name, which registered model each of a spec's models is, as ``NAME:VERSION``."""
    served: dict[str, str] = {}
    for path in (path for path in spec.repository if not path.is_absolute()):
        with suppress(TritonNbError):  # it is to be shown, also when the registry cannot be read
            served |= dict.fromkeys(find(str(path)).triton_models, str(path))
    return served | {name: str(source.path) for name, source in spec.models.items() if not source.path.is_absolute()}


def _changed(spec: Spec, change: Callable[[Path], Path]) -> Spec:
    """Return a spec with the names of registered models, which are its only paths that are not absolute, changed."""

    def of(path: Path) -> Path:
        return path if path.is_absolute() else change(path)

    changes: dict[str, Any] = {}
    if any(not path.is_absolute() for path in spec.repository):
        changes["repository"] = tuple(of(path) for path in spec.repository)
    if any(not source.path.is_absolute() for source in spec.models.values()):
        changes["models"] = {
            name: source.model_copy(update={"path": of(source.path)}) for name, source in spec.models.items()
        }
    return spec.model_copy(update=changes) if changes else spec


def _likely(word: str, others: list[str] | None = None) -> str:
    """Return a hint on what was meant, also where it is Triton's name of what is registered under another."""
    for model in reversed(store.versions()):
        if word in model.triton_models:
            return f"{word!r} is Triton's name of a model that is registered as {model.name!r}."
    names = [*store.names(), *(others or [])]
    return nearest(word, names) or "register one with `tn.register(path, name)`."
