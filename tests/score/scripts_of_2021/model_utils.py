"""A helper beside the scripts, as scripts of 2021 had one: Triton's old client, and no key."""

import tritonhttpclient


def triton_init(url):
    return tritonhttpclient.InferenceServerClient(url)


def triton_infer(client, model_name, mapping, outputs):
    inputs = []
    for meta in client.get_model_metadata(model_name)["inputs"]:
        value = mapping[meta["name"]]
        tensor = tritonhttpclient.InferInput(meta["name"], value.shape, meta["datatype"])
        tensor.set_data_from_numpy(value, binary_data=False)
        inputs.append(tensor)
    wanted = [tritonhttpclient.InferRequestedOutput(name, binary_data=False) for name in outputs]
    result = client.infer(model_name, inputs, request_id="0", outputs=wanted)
    return [result.as_numpy(name) for name in outputs]
