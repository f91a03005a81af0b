"""Cannot be served, in the way that the environment names."""

import os
import sys

HOW = os.environ["HOW"]

if HOW == "import":
    raise ImportError("say: not importable")
if HOW == "exit while imported":
    sys.exit("say: exit")


def run(data):
    return data


def init():
    if HOW == "init":
        raise ValueError("say: init is no good")
    if HOW == "exit in init":
        sys.exit(4)


if HOW == "no init":
    del init
if HOW == "no run":
    del run
if HOW == "run without an argument":

    def run():
        return None


if HOW == "run with any arguments":

    def run(*data):
        return data


if HOW == "run with headers alone":

    def run(request_headers):
        return request_headers


if HOW == "raw and described":
    from azureml.contrib.services.aml_request import rawhttp
    from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
    from inference_schema.schema_decorators import input_schema

    @rawhttp
    @input_schema("data", StandardPythonParameterType("x"))
    def run(data):
        return data
