"""The sections of a spec, with their keys, defaults and the words that say what is wrong with a value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from tritonnb.errors import nearest
from tritonnb.requirements import requirements

#: A model's name is a folder in the staged repository and a part of Triton's URLs.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")

#: How a spec names a registered model: no path with a colon in its only part is taken for one, unless it exists.
REGISTERED = re.compile(rf"(?P<name>{MODEL_NAME.pattern}):(?P<version>[\w.-]+)")

_SHM_SIZE = re.compile(r"\d+(\.\d+)?[bkmg]?", re.IGNORECASE)

Engine = Literal["auto", "embedded", "docker", "kubernetes"]
Gpus = Literal["auto", "none", "all"] | tuple[int, ...]
Restart = Literal["never", "on-failure"]
Flag = str | int | float | tuple[str | int | float, ...]


def _path(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("the path is empty")
    return value


def _resolved(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base") or Path.cwd()
    return Path(os.path.abspath(base / path.expanduser()))  # noqa: PTH100  (resolve() would follow the user's links)


def _resolved_model(path: Path, info: ValidationInfo) -> Path:
    """Return an absolute path, or, where nothing has this path, a registered model's NAME:VERSION as it stands."""
    resolved = _resolved(path, info)
    return path if REGISTERED.fullmatch(str(path)) and not resolved.exists() else resolved


def choice(words: object) -> BeforeValidator:
    """Return a check that a value is one of a Literal's words, which names the nearest one."""

    def check(value: object) -> object:
        if value in get_args(words):
            return value
        known = ", ".join(get_args(words))
        guess = f" ({nearest(value, get_args(words))})" if isinstance(value, str) else ""
        raise ValueError(f"{value!r} is none of {known}{guess}".replace(f" (known: {known}.)", ""))

    return BeforeValidator(check)


def gpu_choice(value: object) -> object:
    """Return which GPUs are meant, or say what could be written."""
    if value in ("auto", "none", "all"):
        return value
    if isinstance(value, list | tuple) and value and all(type(gpu) is int and gpu >= 0 for gpu in value):
        return tuple(value)
    raise ValueError(f"{value!r} is none of auto, none, all, or a list of GPU numbers such as [0, 1]")


def _shm_size(value: object) -> str:
    if type(value) is int or (isinstance(value, str) and _SHM_SIZE.fullmatch(value)):
        return str(value)
    raise ValueError(f"{value!r} is no size; write it like 512m or 1g")


def _variables(value: object) -> object:
    """Take whole numbers as text, because ``WORKER_COUNT: 2`` can mean nothing else; yes and 1.10 could."""
    if not isinstance(value, Mapping):
        return value
    for key in value:
        if isinstance(key, str) and not re.fullmatch(r"[^=\0]+", key):
            raise ValueError(f"{key!r} is no name for an environment variable")
    return {key: str(item) if type(item) is int else item for key, item in value.items()}


def _requirements(value: object, info: ValidationInfo) -> object:
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return requirements(value, (info.context or {}).get("base"))
    return value


def _flags(value: object) -> dict[str, Flag]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no mapping of tritonserver's flags, such as {{log-verbose: 1}}")  # noqa: TRY004  (pydantic collects ValueErrors)
    flags: dict[str, Flag] = {}
    for key, item in value.items():
        items = tuple(item) if isinstance(item, list | tuple) else (item,)
        if not items or not all(isinstance(one, str | int | float) for one in items):
            raise ValueError(f"flag {key!r} needs a value, or a list of values to give it several times, not {item!r}")
        flags[str(key).removeprefix("--").replace("_", "-")] = items if isinstance(item, list | tuple) else item
    return flags


SpecPath = Annotated[Path, BeforeValidator(_path), AfterValidator(_resolved)]
ModelPath = Annotated[Path, BeforeValidator(_path), AfterValidator(_resolved_model)]
Switch = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
ServerPort = Annotated[Port | None, BeforeValidator(lambda port: None if type(port) is int and not port else port)]
PortOrFree = Annotated[int, Field(strict=True, ge=0, le=65535)]
Amount = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Variables = Annotated[dict[str, str], BeforeValidator(_variables)]


class Section(BaseModel):
    """A group of keys: nothing else is taken, and nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_not_given(cls, value: object) -> object:
        return {key: item for key, item in value.items() if item is not None} if isinstance(value, Mapping) else value


class ModelSource(Section):
    """One model under a name of the user's choice.

    Parameters
    ----------
    path
        An ``.onnx`` file or a model's directory, absolute; or ``NAME:VERSION`` of a registered model.
    config
        Triton's own ``config.pbtxt`` keys, in Triton's words; each replaces the same key of the
        model's own config. In YAML they stand beside ``path``.
    """

    path: ModelPath
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _beside_path(cls, value: object) -> object:
        if isinstance(value, str | os.PathLike):
            return {"path": value}
        # Triton has no key of the name `config`, so with it the value is in this class's own words.
        if isinstance(value, Mapping) and "config" not in value:
            config = {key: item for key, item in value.items() if key != "path"}
            return {"config": config} | ({"path": value["path"]} if "path" in value else {})
        return value

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        return {"path": str(self.path), **self.config} if self.config else str(self.path)


class Resources(Section):
    """What the server may use; None leaves it to the engine."""

    cpu_cores: Amount | None = None
    memory_gb: Amount | None = None
    gpu_cores: Annotated[int, Field(strict=True, ge=0)] | None = None


class Server(Section):
    """How tritonserver itself is started; a port of None, or 0, is a free one."""

    image: str | None = None
    http_port: ServerPort = None
    grpc_port: ServerPort = None
    metrics_port: ServerPort = None
    shm_size: Annotated[str, PlainValidator(_shm_size)] = "1g"
    flags: Annotated[dict[str, Flag], PlainValidator(_flags)] = Field(default={})
    env: Variables = Field(default={})
    shared_memory: Switch = False

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = [port for port in (self.http_port, self.grpc_port, self.metrics_port) if port]
        if len(set(ports)) < len(ports):
            raise ValueError("http_port, grpc_port and metrics_port must differ from one another")
        return self


class Environment(Section):
    """Extra pip packages and variables for Python models and entry scripts.

    Parameters
    ----------
    pip
        Requirements as `tritonnb.requirements.requirements` returns them; in YAML and options also ``-r FILE``.
    variables
        Environment variables.
    """

    pip: Annotated[tuple[str, ...], BeforeValidator(_requirements)] = ()
    variables: Variables = Field(default={})

    @field_validator("variables")
    @classmethod
    def _worker_count_is_a_count(cls, variables: dict[str, str]) -> dict[str, str]:
        count = variables.get("WORKER_COUNT", "1")
        if not (count.isascii() and count.isdecimal() and int(count)):
            raise ValueError(f"WORKER_COUNT is {count!r}, and it is a number of processes, from 1")
        return variables


class Score(Section):
    """The entry script, named relative to its source directory, and how it is run.

    Port 0 is a free one. Without ``workers`` there are as many as ``WORKER_COUNT`` among the environment's variables
    says, else one.
    """

    entry_script: str
    source_directory: Annotated[SpecPath, Field(validate_default=True)] = Path()
    port: PortOrFree = 6789
    workers: Count | None = None
    threads: Count = 1
    timeout_s: Amount = 60
    init_timeout_s: Amount = 300
    max_body_mb: Amount = 100
    cors_origins: tuple[str, ...] = ()


class Kubernetes(Section):
    """Where and how widely a deployment runs on a cluster."""

    namespace: str | None = None
    context: str | None = None
    replicas: Count = 1
    max_replicas: Count | None = None
    storage_uri: str | None = None
    image: str | None = None

    @model_validator(mode="after")
    def _room_to_grow(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, fewer than replicas, {self.replicas}")
        return self
