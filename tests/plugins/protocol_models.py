"""Models of Triton's Python backend, one for each thing that the protocol offers beside plain inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MODEL = """\
import json, os, time
import numpy as np
import triton_python_backend_utils as pb_utils

def value(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()

def answer(**outputs):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])

class TritonPythonModel:
"""

_ACCUMULATOR = (
    """
    def initialize(self, args):
        self.sums = {}
    def execute(self, requests):
        return [self.add(r) for r in requests]
    def add(self, request):
        if not value(request, "READY").any():  # Triton fills the places of other sequences in the batch
            return answer(sum=value(request, "x"), ended=np.array([[False]]))
        which, ended = request.correlation_id(), bool(value(request, "END").any())
        total = value(request, "x") + (0 if value(request, "START").any() else self.sums[which])
        self.sums[which] = total
        if ended:
            del self.sums[which]
        return answer(sum=total, ended=np.array([[ended]]))
""",
    """
max_batch_size: 4
input { name: "x" data_type: TYPE_INT32 dims: [1] }
output { name: "sum" data_type: TYPE_INT32 dims: [1] }
output { name: "ended" data_type: TYPE_BOOL dims: [1] }
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } }
  control_input { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1] } }
  control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [0, 1] } }
}
instance_group { count: 1 kind: KIND_CPU }
""",
)

_REPEATER = (
    """
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            asked = json.loads(request.parameters())
            for i in range(int(value(request, "times").ravel()[0])):
                if asked.get("fail_at") == i:
                    error = pb_utils.TritonError("the ribbon is torn")
                    sender.send(pb_utils.InferenceResponse(error=error),
                                flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                    break
                if asked.get("die_at") == i:
                    os._exit(3)
                time.sleep(asked.get("every_ms", 0) / 1000)
                gate = f"{asked['gate']}{i - 1}" if i and "gate" in asked else ""
                while gate and not os.path.exists(gate) and not request.is_cancelled():
                    time.sleep(0.005)
                if request.is_cancelled() and "tell" in asked:
                    open(asked["tell"], "w").close()
                    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                    break
                sender.send(answer(i=np.array([i], np.int32), text=np.array([f"word {i}".encode()], object)))
            else:
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None
""",
    """
input { name: "times" data_type: TYPE_INT32 dims: [1] }
output { name: "i" data_type: TYPE_INT32 dims: [1] }
output { name: "text" data_type: TYPE_STRING dims: [1] }
model_transaction_policy { decoupled: true }
instance_group { count: 2 kind: KIND_CPU }
""",
)

_TELLER = (
    """
    def execute(self, requests):
        return [self.tell(r) for r in requests]
    def tell(self, r):
        told = {
            "parameters": json.loads(r.parameters()), "id": r.request_id(), "sequence": r.correlation_id(),
            "timeout": r.timeout(), "wanted": sorted(r.requested_output_names()),
        }
        return answer(told=np.array([json.dumps(told).encode()], object), length=np.array([len(value(r, "text"))]))
""",
    """
input { name: "text" data_type: TYPE_STRING dims: [-1] }
output { name: "told" data_type: TYPE_STRING dims: [1] }
output { name: "length" data_type: TYPE_INT64 dims: [1] }
""",
)

_SCORES = (
    """
    def execute(self, requests):
        return [answer(scores=value(r, "x"), plain=value(r, "x")) for r in requests]
""",
    """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [3] }
output { name: "scores" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" }
output { name: "plain" data_type: TYPE_FP32 dims: [3] }
""",
)

_QUEUED = (
    """
    def initialize(self, args):
        self.executed = 0
    def execute(self, requests):
        self.executed += 1
        for request in requests:
            asked = json.loads(request.parameters())
            if "until" in asked:
                open(asked["tell"], "w").close()
                while not os.path.exists(asked["until"]):
                    time.sleep(0.002)
        return [answer(order=value(r, "x") * 0 + self.executed) for r in requests]
""",
    """
max_batch_size: 1
input { name: "x" data_type: TYPE_INT32 dims: [1] }
output { name: "order" data_type: TYPE_INT32 dims: [1] }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching {
  priority_levels: 2
  default_priority_level: 2
  default_queue_policy { allow_timeout_override: true timeout_action: REJECT default_timeout_microseconds: 60000000 }
}
""",
)

PROTOCOL_MODELS = {
    "accumulator": _ACCUMULATOR,
    "repeater": _REPEATER,
    "teller": _TELLER,
    "scores": _SCORES,
    "queued": _QUEUED,
}


def write_protocol_models(repository: Path, *names: str) -> Path:
    """Write these models, or all, into a model repository."""
    for name in names or PROTOCOL_MODELS:
        code, config = PROTOCOL_MODELS[name]
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(_MODEL + code)
        (repository / name / "config.pbtxt").write_text(f'backend: "python"\n{config}')
    if (repository / "scores").is_dir():
        (repository / "scores" / "labels.txt").write_text("cat\ndog\ntripod\n")
    return repository
