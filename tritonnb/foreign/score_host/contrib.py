"""The modules that a script imports for raw HTTP, under the names of Azure ML's packages; loaded when first used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from .messages import Answer, Request

NAMES = ("azureml_inference_server_http.api", "azureml.contrib.services")


def offer() -> None:
    """Make ``from azureml.contrib.services.aml_request import rawhttp`` and its relatives work."""
    for part in ("aml_request", "aml_response"):
        spec = importlib.util.find_spec(f"{__package__}.{part}")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        for package in NAMES:
            sys.modules[f"{package}.{part}"] = module


def is_raw_http() -> bool:
    """Tell whether the script used ``@rawhttp``."""
    module = sys.modules[f"{__package__}.aml_request"]
    return bool(_loaded(module).get("raw_functions"))


def raw_request(request: Request) -> Any:
    """Return a request as a raw ``run()`` gets it."""
    return importlib.import_module(f"{__package__}.aml_request").AMLRequest.of(request)


def raw_answer(output: object, request: Request) -> Answer | None:
    """Return a response that the script made as what is to be sent; None where it is another object."""
    werkzeug = sys.modules.get("werkzeug.wrappers")  # without it the script cannot have made one
    if not werkzeug or not isinstance(output, werkzeug.Response):
        return None
    return importlib.import_module(f"{__package__}.aml_response").answer_of(output, request)


def is_schema_decorated(function: Any) -> bool:
    """Tell whether a function was decorated by inference-schema."""
    schema = sys.modules.get("inference_schema.schema_util")  # without it the script cannot have done so
    return bool(schema) and schema.is_schema_decorated(function)


def _loaded(module: ModuleType) -> dict[str, Any]:
    return object.__getattribute__(module, "__dict__")  # any other way would load it
