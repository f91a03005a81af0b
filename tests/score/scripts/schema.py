"""Says what it takes and returns."""

import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema


def init():
    pass


@input_schema("numbers", NumpyParameterType(np.array([[1.0, 2.0]])))
@input_schema("factor", StandardPythonParameterType(3))
@output_schema(NumpyParameterType(np.array([3.0])))
def run(numbers, factor=2):
    return (numbers.sum(axis=1) * factor).tolist()
