"""onnxruntime's ``InferenceSession`` on a Triton server: a local program moves to Triton by changing one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tritonnb.client.checks import rows_of
from tritonnb.handle import connect, deployment, deployments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tritonnb.client.results import TensorMetadata
    from tritonnb.handle.served import Served

# onnxruntime's word for each of Triton's datatypes that it writes in another way.
_TYPES = {"FP16": "float16", "BF16": "bfloat16", "FP32": "float", "FP64": "double", "BYTES": "string"}


class NodeArg(NamedTuple):
    """An input or output, as onnxruntime describes it.

    Parameters
    ----------
    name
        The tensor's name.
    type
        onnxruntime's word, such as ``"tensor(float)"``.
    shape
        ``"N"`` for the batch dimension, None where any size will do.
    """

    name: str
    type: str
    shape: list[int | str | None]


class InferenceSession:
    """A model on a Triton server, asked as ``onnxruntime.InferenceSession`` is.

    ::

        session = onnxruntime.InferenceSession("densenet_onnx.onnx")  # before
        session = tritonnb.InferenceSession("densenet_onnx")          # now on Triton; all else stays

    Parameters
    ----------
    model
        Triton's name of the model.
    sess_options, providers, provider_options
        Taken so that a call need not be changed, and left alone: how a model runs is said in its configuration.
    on
        A deployment or connection, its name, or the address of a server; the kernel's latest where left out.
    version
        One of the model's versions, else the server's choice (the latest).
    timeout
        Seconds that a request may take.

    Raises
    ------
    DeploymentError
        There is no such deployment, or none at all, or it has no such model; the hint names the nearest.
    ServerError
        The model is not known to a server that somebody else runs, or not ready.
    """

    def __init__(
        self,
        model: str,
        sess_options: object = None,
        providers: object = None,
        provider_options: object = None,
        *,
        on: str | Served | None = None,
        version: str = "",
        timeout: float | None = None,
    ) -> None:
        del sess_options, providers, provider_options
        self._served = _served(on)
        self._version = version
        self._timeout = timeout
        self._metadata = self._served.metadata(model, version)

    def get_inputs(self) -> list[NodeArg]:
        """Return what the model takes."""
        return [self._described(tensor) for tensor in self._metadata.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """Return what the model gives."""
        return [self._described(tensor) for tensor in self._metadata.outputs]

    def get_providers(self) -> list[str]:
        """Return onnxruntime's words for where the server runs the model: its GPUs, and the CPU always."""
        groups = self._served.config(self._metadata.name, self._version).get("instance_group", ())
        on_gpu = any(group.get("kind") == "KIND_GPU" for group in groups)
        return [*(["CUDAExecutionProvider"] if on_gpu else []), "CPUExecutionProvider"]

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: object = None
    ) -> list[NDArray[Any]]:
        """Return the model's outputs for some inputs.

        A batch larger than the model's ``max_batch_size`` goes in several requests, as with ``infer_many``.

        Parameters
        ----------
        output_names
            The outputs wanted, in this order; None for all, in the model's.
        input_feed
            Arrays by input name, with the batch dimension, and all else that ``infer`` of a deployment takes.
        run_options
            Taken as in onnxruntime, and left alone.

        Returns
        -------
        list of ndarray
            Text as ``str`` objects, as onnxruntime gives it.

        Raises
        ------
        InferenceError
            The request does not fit the model, or the server or the model refused it.
        """
        del run_options
        names = list(output_names or [tensor.name for tensor in self._metadata.outputs])
        ask = self._served.infer_many if self._is_large(input_feed) else self._served.infer
        answer = ask(
            self._metadata.name, input_feed, outputs=names, version=self._version, timeout=self._timeout, decode=True
        )
        return [answer[name] for name in names]

    def _is_large(self, inputs: Mapping[str, Any]) -> bool:
        """Tell whether a batch is larger than the model takes at once."""
        most = self._metadata.max_batch_size
        return most > 0 and any(rows_of(inputs[name]) > most for name in inputs)

    def _described(self, tensor: TensorMetadata) -> NodeArg:
        shape: list[int | str | None] = [None if size == -1 else size for size in tensor.shape]
        if self._metadata.batched:
            shape[0] = "N"
        return NodeArg(tensor.name, f"tensor({_TYPES.get(tensor.datatype, tensor.datatype.lower())})", shape)

    def __repr__(self) -> str:
        return f"<InferenceSession {self._metadata.name!r} on {self._served.name!r}>"


def _served(on: str | Served | None) -> Served:
    if on is None or (isinstance(on, str) and "://" not in on):
        return deployment(on)
    if isinstance(on, str):
        address = on.rstrip("/")
        # Connecting anew would close what another session of this address asks.
        return next((handle for handle in deployments() if handle.url == address), None) or connect(address)
    return on
