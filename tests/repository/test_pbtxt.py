import json

import pytest
from google.protobuf import json_format

from tritonnb.errors import ModelConfigError
from tritonnb.repository import pbtxt

CONFIG = """
name: "net"   # a comment
backend: "onnxruntime"
max_batch_size: 4
input [ { name: "x", data_type: TYPE_FP32, dims: [ 4 ] } ]
dynamic_batching { preferred_batch_size: [ 2 ] max_queue_delay_microseconds: 100 }
parameters { key: "a" value: { string_value: "1" } }
"""


def test_a_config_is_read_by_tritons_schema():
    config = pbtxt.parse(CONFIG)

    assert (config.name, config.max_batch_size, list(config.input[0].dims)) == ("net", 4, [4])
    assert config.dynamic_batching.max_queue_delay_microseconds == 100


def test_a_config_written_as_text_is_read_as_the_same_config():
    config = pbtxt.parse(CONFIG)

    assert pbtxt.parse(pbtxt.to_text(config)) == config


@pytest.mark.parametrize(
    ("text", "where", "what", "hint"),
    [
        ('backendd: "x"', (1, 1), "a model's configuration has no field 'backendd'", "did you mean 'backend'?"),
        (
            "max_batch_size: 8\n\tinstance_group { countt: 1 }",
            (2, 19),
            "ModelInstanceGroup has no field 'countt'",
            "did you mean 'count'?",
        ),
        ("input { data_type: FP32 }", (1, 20), "'FP32' is no DataType", "did you mean 'TYPE_FP32'?"),
        ("input [ { dims: [1, 2 } ]", (1, 23), 'Expected ","', "`list: [ ... ]`"),
        ("max_batch_size = 8", (1, 16), 'Expected ":"', "`key: value`"),
        ('max_batch_size: "a"', (1, 17), "Couldn't parse integer", ""),
        ('{"name": "x"}', (1, 1), "Expected identifier or number, got {", "this is JSON"),
        ("input: {{ }}", (1, 9), "Expected identifier or number, got {", "config.pbtxt is written as"),
        ('input { data_type: "TYPE_FP32" }', (1, 20), "TYPE_FP32 in quotes is text", "without quotes"),
        ("input { dims: [1, 2, ] }", (1, 22), "Couldn't parse integer: ]", "no comma after"),
        ("max_batch_size: ${size}", (1, 17), "Couldn't parse integer: $", "${size} is a template's placeholder"),
        ('input [ {\n name: "x"\n', (2, 8), 'Expected "}"', "config.pbtxt is written as"),
        (
            "ensemble_scheduling { }\ndynamic_batching { }",
            (2, 1),
            'Field "dynamic_batching" is specified along with field "ensemble_scheduling"',
            "",
        ),
    ],
)
def test_a_typo_is_shown_in_its_line_with_the_right_word(text, where, what, hint):
    line, column = where

    with pytest.raises(ModelConfigError) as caught:
        pbtxt.parse(text, source="net/config.pbtxt")

    reason, shown, caret = caught.value.message.splitlines()
    assert reason.startswith(f"net/config.pbtxt, line {line}, column {column}: {what}")
    assert shown == "  " + text.splitlines()[line - 1]
    assert caret.index("^") == column + 1
    assert caught.value.hint if hint else not caught.value.hint
    assert hint in caught.value.hint


def test_a_caret_points_at_its_mark_behind_a_tab():
    with pytest.raises(ModelConfigError, match=r"\n  \tnam: 1\n  \t\^\n"):
        pbtxt.parse("\tnam: 1")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "binary"])
def test_a_config_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path, content):
    file = tmp_path / "config.pbtxt"
    if content:
        file.write_bytes(content)

    with pytest.raises(ModelConfigError, match=f"{file} cannot be read"):
        pbtxt.read(file)


def test_keys_of_a_spec_replace_the_same_top_level_keys_as_a_whole():
    own = pbtxt.parse(CONFIG)

    merged = pbtxt.merge(
        own,
        {
            "max_batch_size": 8,
            "dynamic_batching": {"preferred_batch_size": [4, 8]},
            "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
            "parameters": {"b": {"string_value": "2"}},
        },
    )

    assert json.loads(json_format.MessageToJson(merged, preserving_proto_field_name=True)) == {
        "name": "net",
        "backend": "onnxruntime",
        "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}],
        "dynamic_batching": {"preferred_batch_size": [4, 8]},
        "instance_group": [{"count": 2, "kind": "KIND_CPU"}],
        "parameters": {"b": {"string_value": "2"}},
    }
    assert own == pbtxt.parse(CONFIG)


def test_an_empty_group_switches_it_on_with_its_defaults():
    assert pbtxt.merge(pbtxt.parse(""), {"dynamic_batching": {}}).HasField("dynamic_batching")


def test_a_scheduler_of_the_spec_takes_the_place_of_the_models_own():
    merged = pbtxt.merge(pbtxt.parse(CONFIG), {"sequence_batching": {}})

    assert merged.WhichOneof("scheduling_choice") == "sequence_batching"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"max_batchsize": 8}, "unknown key 'max_batchsize' (did you mean 'max_batch_size'?)"),
        (
            {"dynamic_batching": {"preferred_batch_sise": [1]}},
            "unknown key 'dynamic_batching.preferred_batch_sise' (did you mean 'preferred_batch_size'?)",
        ),
        (
            {"input": [{"data_type": "FP32"}]},
            "input[0].data_type: 'FP32' is no DataType (did you mean 'TYPE_FP32'?)",
        ),
        ({"max_batch_size": "8"}, "max_batch_size: expected a whole number, got '8'"),
        ({"max_batch_size": True}, "max_batch_size: expected a whole number, got True"),
        ({"response_cache": {"enable": 1}}, "response_cache.enable: expected true or false, got 1"),
        ({"backend": 5}, "backend: expected text (put it in quotes), got 5"),
        ({"instance_group": {"count": 2}}, "instance_group: expected a list, got {'count': 2}"),
        ({"parameters": ["a"]}, "parameters: expected a mapping of names, got ['a']"),
        ({"parameters": {"a": "1"}}, "parameters.a: expected keys below it (string_value), got '1'"),
        ({"dynamic_batching": None}, "dynamic_batching has no value; {} stands for its defaults"),
        ({"input": [{"dims": [None]}]}, "input[0].dims[0] has no value"),
        ({"max_batch_size": 2**40}, "Failed to parse max_batch_size field: Value out of range: 1099511627776."),
    ],
)
def test_a_wrong_key_of_a_spec_is_named_by_its_path(overrides, problem):
    with pytest.raises(ModelConfigError) as caught:
        pbtxt.merge(pbtxt.parse(CONFIG), overrides, source="models.net")

    assert caught.value.message == f"models.net does not follow Triton's model configuration:\n  {problem}"


def test_all_wrong_keys_of_a_spec_are_told_at_once():
    with pytest.raises(ModelConfigError) as caught:
        pbtxt.merge(pbtxt.parse(""), {"a": 1, "name": 2, "input": 3})

    assert len(caught.value.message.splitlines()) == 4


def test_what_triton_fills_in_by_itself_is_no_part_of_a_config_made_of_its_json():
    config = pbtxt.from_json(
        {
            "name": "net",
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "runtime": "model.py",
            "version_policy": {"latest": {"num_versions": 1}},
            "max_batch_size": 4,
            "input": [{"name": "x", "data_type": "TYPE_FP32", "format": "FORMAT_NONE", "dims": [4], "optional": False}],
            "optimization": {"input_pinned_memory": {"enable": True}, "output_pinned_memory": {"enable": True}},
            "instance_group": [{"name": "net", "kind": "KIND_CPU", "count": 2, "gpus": []}],
            "default_model_filename": "model.onnx",
            "parameters": {},
        }
    )
    assert pbtxt.to_text(config) == (
        'platform: "onnxruntime_onnx"\nmax_batch_size: 4\n'
        'input {\n  name: "x"\n  data_type: TYPE_FP32\n  dims: 4\n}\n'
        'instance_group {\n  count: 2\n  kind: KIND_CPU\n}\nbackend: "onnxruntime"\n'
    )


def test_what_somebody_chose_stays_in_a_config_made_of_its_json():
    config = {
        "backend": "mine",
        "runtime": "other.so",
        "version_policy": {"all": {}},
        "optimization": {"input_pinned_memory": {"enable": False}},
        "instance_group": [{"name": "first", "count": 1}],
        "dynamic_batching": {"preferred_batch_size": [2], "max_queue_delay_microseconds": 100},
        "default_model_filename": "net.bin",
    }
    assert pbtxt.from_json(config) == pbtxt.merge(pbtxt.parse(""), config)


def test_a_field_that_is_not_known_is_an_error_and_not_left_out():
    with pytest.raises(ModelConfigError, match=r"'net' cannot be read: .*brand_new"):
        pbtxt.from_json({"name": "net", "brand_new": 1})
