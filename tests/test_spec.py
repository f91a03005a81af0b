from pathlib import Path
from types import MappingProxyType

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tritonnb.errors import SpecError
from tritonnb.spec import ModelSource, Spec
from tritonnb.spec_sections import Server

BASE = Path("/work")

# Every field once, each unlike its default.
WHOLE = """
name: vision
models:
  classifier: nets/net.onnx
  reader:
    path: nets/reader
    max_batch_size: 8
    dynamic_batching: {preferred_batch_size: [4, 8], max_queue_delay_microseconds: 200}
    instance_group: [{count: 2, kind: KIND_CPU}]
repository: models/triton
engine: docker
gpus: [0, 1]
resources: {cpu_cores: 2, memory_gb: 4.5, gpu_cores: 1}
server:
  image: triton:24.10
  http_port: 8000
  grpc_port: 8001
  metrics_port: 8002
  shm_size: 512m
  flags: {log-verbose: 1, backend-config: ["python,shm-default-byte-size=1", "onnxruntime,x=1"]}
  env: {OMP_NUM_THREADS: "1"}
  shared_memory: true
auth: true
keep: true
restart: on-failure
environment: {pip: [nltk], variables: {WORKER_COUNT: "2"}}
score: {entry_script: score.py, source_directory: src, port: 6790, workers: 2, threads: 3, timeout_s: 5}
kubernetes: {namespace: a, context: b, replicas: 2, max_replicas: 3, storage_uri: "pvc://c", image: d}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        Spec.from_yaml(text, base=BASE)
    first, *lines = caught.value.message.splitlines()
    assert first == "<cell> cannot be used:"
    return [line.removeprefix("  ") for line in lines]


def test_every_key_of_a_spec_is_read():
    spec = Spec.from_yaml(WHOLE, base=BASE)

    assert spec.models["classifier"] == ModelSource(path=Path("/work/nets/net.onnx"))
    assert spec.models["reader"].path == Path("/work/nets/reader")
    assert spec.models["reader"].config["dynamic_batching"]["preferred_batch_size"] == [4, 8]
    assert spec.repository == (Path("/work/models/triton"),)
    assert spec.gpus == (0, 1)
    assert spec.server.flags == {
        "log-verbose": 1,
        "backend-config": ("python,shm-default-byte-size=1", "onnxruntime,x=1"),
    }
    assert spec.score is not None
    assert spec.score.source_directory == Path("/work/src")
    default = Spec()
    assert [key for key in Spec.model_fields if getattr(spec, key) == getattr(default, key)] == []


def test_a_spec_written_as_yaml_is_read_as_the_same_spec():
    spec = Spec.from_yaml(WHOLE, base=BASE)

    assert Spec.from_yaml(spec.to_yaml()) == spec


def test_written_yaml_holds_only_what_differs_from_the_defaults():
    spec = Spec.from_yaml("models: {net: net.onnx}\nengine: auto\nserver: {shm_size: 1g}", base=BASE)

    assert yaml.safe_load(spec.to_yaml()) == {"name": "net", "models": {"net": "/work/net.onnx"}}


def test_empty_keys_mean_the_defaults():
    text = "engine:\nmodels:\nserver: {image: null, shm_size: null, flags: }\nscore:"

    assert Spec.from_yaml(text) == Spec.from_options(engine=None, server=None) == Spec.from_yaml("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: nets", ["nets"]),
        ("models: [nets, more/net.onnx]", ["nets", "more/net.onnx"]),
        ("repository: models/triton", ["models/triton"]),
        ("models: nets\nrepository: models/triton", ["nets", "models/triton"]),
        ("models: ../elsewhere", ["../elsewhere"]),
    ],
)
def test_models_as_a_path_means_all_that_is_found_there(text, expected):
    spec = Spec.from_yaml(text, base=BASE)

    assert spec.models == {}
    assert [str(path) for path in spec.repository] == [str((BASE / path).resolve()) for path in expected]


def test_a_home_folder_in_a_path_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")

    assert Spec.from_yaml("models: ~/nets").repository == (Path("/home/ada/nets"),)


def test_paths_of_a_file_start_from_its_folder(tmp_path):
    (tmp_path / "spec.yaml").write_text("models: nets", encoding="utf-8-sig")

    assert Spec.from_file(tmp_path / "spec.yaml").repository == (tmp_path / "nets",)


def test_paths_of_a_cell_start_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert Spec.from_yaml("models: {net: net.onnx}").models["net"].path == tmp_path / "net.onnx"


def test_a_missing_spec_file_names_its_nearest_neighbour(tmp_path):
    (tmp_path / "vision.yaml").write_text("name: vision")

    with pytest.raises(SpecError, match=r"did you mean 'vision.yaml'"):
        Spec.from_file(tmp_path / "vison.yaml")


def test_a_spec_file_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "spec.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(SpecError, match="cannot be read as a YAML file"):
        Spec.from_file(tmp_path / "spec.yaml")


def test_python_arguments_make_the_same_spec_as_yaml():
    options = yaml.safe_load(WHOLE)

    assert Spec.from_options(base=BASE, **options) == Spec.from_yaml(WHOLE, base=BASE)


def test_azure_words_are_accepted():
    text = "name: a\nauth_enabled: true\ncpu_cores: 2\nmemory_gb: 4\ngpu_cores: 1"

    spec = Spec.from_yaml(text)

    assert spec.auth is True
    assert (spec.resources.cpu_cores, spec.resources.memory_gb, spec.resources.gpu_cores) == (2, 4, 1)
    assert spec == Spec.from_yaml("name: a\nauth: true\nresources: {cpu_cores: 2, memory_gb: 4, gpu_cores: 1}")


def test_the_same_thing_in_two_words_is_an_error():
    assert problems("auth: true\nauth_enabled: false\nresources: {cpu_cores: 1}\ncpu_cores: 2") == [
        "line 2, column 1: auth_enabled and auth are the same: give one",
        "line 4, column 1: cpu_cores and resources.cpu_cores are the same: give one",
    ]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"models": {"Net_1": "x"}, "repository": "models"}, "net-1"),
        ({"models": "downloads/ResNet 50.onnx"}, "resnet-50"),
        ({"repository": "models"}, "models"),
        ({"models": "9lives.onnx"}, "m-9lives"),
        ({"models": "é.onnx"}, "triton"),
        ({}, "triton"),
        ({"models": "n" * 80}, "n" * 63),
    ],
)
def test_a_deployment_without_a_name_is_called_after_what_it_serves(options, name):
    assert Spec.from_options(**options).name == name


@pytest.mark.parametrize("name", ["My Net", "-a", "a-", "1a", "a_b", "a.b", "n" * 64, "é"])
def test_a_name_that_no_container_could_have_is_refused_with_a_better_one(name):
    [problem] = problems(yaml.safe_dump({"name": name}, allow_unicode=True))

    better = problem.rpartition("such as ")[2].strip("'")
    assert Spec.from_options(name=better).name == better


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("enginee: docker", "line 1, column 1: unknown key 'enginee' (did you mean 'engine'?)"),
        (
            "\n\nserver:\n  http_prt: 8000",
            "line 4, column 3: unknown key 'server.http_prt' (did you mean 'http_port'?)",
        ),
        (
            "engine: dokcer",
            (
                "line 1, column 1: engine: 'dokcer' is none of auto, embedded, docker, kubernetes"
                " (did you mean 'docker'?)"
            ),
        ),
        ("restart: 5", "line 1, column 1: restart: 5 is none of never, on-failure"),
        ("gpus: 0", "line 1, column 1: gpus: 0 is none of auto, none, all, or a list of GPU numbers such as [0, 1]"),
        (
            "gpus: [true]",
            ("line 1, column 1: gpus: [True] is none of auto, none, all, or a list of GPU numbers such as [0, 1]"),
        ),
        ("auth: maybe", "line 1, column 1: auth: expected true or false, got 'maybe'"),
        ("name: 5", "line 1, column 1: name: expected text (put it in quotes), got 5"),
        (
            "server: 8000",
            (
                "line 1, column 1: server: expected keys below it (image, http_port, grpc_port, metrics_port,"
                " shm_size, flags, env, shared_memory), got 8000"
            ),
        ),
        (
            "server: {http_port: 80800}",
            ("line 1, column 10: server.http_port: must be less than or equal to 65535, got 80800"),
        ),
        ("server: {http_port: '8000'}", "line 1, column 10: server.http_port: expected a whole number, got '8000'"),
        (
            "server: {http_port: 8000, grpc_port: 8000}",
            ("line 1, column 1: server: http_port, grpc_port and metrics_port must differ from one another"),
        ),
        ("server: {shm_size: lots}", "line 1, column 10: server.shm_size: 'lots' is no size; write it like 512m or 1g"),
        (
            "server: {flags: [a]}",
            ("line 1, column 10: server.flags: ['a'] is no mapping of tritonserver's flags, such as {log-verbose: 1}"),
        ),
        (
            "server: {flags: {log-verbose: }}",
            (
                "line 1, column 10: server.flags: flag 'log-verbose' needs a value, or a"
                " list of values to give it several times, not None"
            ),
        ),
        ("server:\n  env: {A: 1.10}", "line 2, column 9: server.env.A: expected text (put it in quotes), got 1.1"),
        ("resources: {cpu_cores: 0}", "line 1, column 13: resources.cpu_cores: must be greater than 0, got 0"),
        ("resources: {memory_gb: yes}", "line 1, column 13: resources.memory_gb: expected a number, got True"),
        ("cpu_cores: -1", "line 1, column 1: resources.cpu_cores: must be greater than 0, got -1"),
        ("environment: {pip: nltk}", "line 1, column 15: environment.pip: expected a list, got 'nltk'"),
        (
            "environment: {pip: [nltk=3.9]}",
            ("line 1, column 15: environment.pip: 'nltk=3.9' is no requirement of pip's; did you mean 'nltk==3.9'?"),
        ),
        (
            "environment: {variables: {A=B: c}}",
            "line 1, column 15: environment.variables: 'A=B' is no name for an environment variable",
        ),
        (
            "score: {port: 1}",
            "line 1, column 1: score.entry_script is missing (for a script in a cell, give `%%triton_score` these)",
        ),
        (
            "kubernetes: {replicas: 3, max_replicas: 2}",
            ("line 1, column 1: kubernetes: max_replicas is 2, fewer than replicas, 3"),
        ),
        ("models: 5", "line 1, column 1: models: expected keys and values, got 5"),
        ("models: ''", "line 1, column 1: repository.0: the path is empty"),
        ("models: [a, 5]", "line 1, column 13: repository.1: expected a path, got 5"),
        ("models:\n  net: {max_batch_size: 4}", "line 2, column 3: models.net.path is missing"),
        (
            "models:\n  net: 5",
            ("line 2, column 3: models.net: expected a path, or 'path' and Triton's keys below it, got 5"),
        ),
        (
            "models: {../net: a}",
            ("line 1, column 1: models: '../net' is no name for a model: use letters, digits, '.', '_' and '-'"),
        ),
        ("name: a\nname: b", "line 2, column 1: key 'name' is given twice (first on line 1)"),
        ("name:vision", "line 1, column 1: expected keys such as 'models: PATH' (mind the space), got 'name:vision'"),
        ("- models", "line 1, column 1: expected keys such as 'models: PATH' (mind the space), got ['models']"),
    ],
)
def test_a_mistake_is_named_by_line_and_column_with_the_right_word(text, problem):
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("name: a: b", (1, 8), "put a text that holds ': ' in quotes"),
        ("server:\n\t- b", (2, 1), "YAML is indented with spaces"),
        ("name: a\n---\nname: b", (2, 1), "expected a single document in the stream, but found another document"),
        ("name: *b", (1, 7), "found undefined alias"),
        ("name: a\nauth: \x07", (2, 7), "special characters are not allowed (U+0007)"),
        ("? [a]\n: b", (1, 3), "a key must be a plain word"),
        ("name: !!python/object:os.system x", (1, 7), "could not determine a constructor"),
        ("name: 2020-99-99", (1, 7), "'2020-99-99' is no timestamp"),
        ("models: &a [*a]", (1, 1), "an alias (*) inside of its own anchor (&)"),
        ("[" * 5000, (1, 1), "nested too deeply"),
    ],
)
def test_an_error_in_yaml_itself_is_named_by_line_and_column(text, where, what):
    [problem] = problems(text)

    assert problem.startswith(f"line {where[0]}, column {where[1]}: ")
    assert what in problem


def test_aliases_that_multiply_are_stopped():
    text = "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))

    [problem] = problems(text)

    assert "too large a document" in problem


def test_anchors_and_merge_keys_are_understood():
    text = "models:\n  a: &net {path: a, max_batch_size: 8}\n  b: {<<: *net, path: b}"

    spec = Spec.from_yaml(text, base=BASE)

    assert spec.models["b"] == ModelSource(path=Path("/work/b"), config={"max_batch_size": 8})


def test_all_problems_are_told_at_once_in_the_order_of_their_lines():
    found = problems("enginee: docker\nname: A\nserver:\n  http_port: -1\n  grpc_prt: 1\nname: b\n")

    assert [line.partition(",")[0] for line in found] == ["line 1", "line 4", "line 5", "line 6"]


def test_a_wrong_option_names_the_nearest_one():
    with pytest.raises(SpecError) as caught:
        Spec.from_options(enginee="docker", gpus="some")

    assert caught.value.message == (
        "The options cannot be used:\n"
        "  gpus: 'some' is none of auto, none, all, or a list of GPU numbers such as [0, 1]\n"
        "  unknown key 'enginee' (did you mean 'engine'?)"
    )


def test_whole_numbers_are_taken_as_the_text_of_a_variable():
    assert Spec.from_yaml("environment: {variables: {WORKER_COUNT: 2}}").environment.variables == {"WORKER_COUNT": "2"}


def test_flags_may_be_written_the_way_tritonserver_shows_them():
    assert Spec.from_options(server={"flags": {"--log_verbose": 1}}).server.flags == {"log-verbose": 1}


def test_replacing_changes_what_is_named_and_keeps_the_rest_of_a_section():
    spec = Spec.from_yaml(WHOLE, base=BASE)

    changed = spec.replace(name="other", server={"http_port": 9000}, cpu_cores=1, engine=None)

    assert changed.server == spec.server.model_copy(update={"http_port": 9000})
    assert changed.resources == spec.resources.model_copy(update={"cpu_cores": 1})
    assert (changed.name, changed.engine, changed.models) == ("other", "docker", spec.models)


def test_replacing_the_models_with_a_path_leaves_none_of_the_old():
    changed = Spec.from_yaml(WHOLE, base=BASE).replace(models="nets", base=BASE)

    assert (changed.models, changed.repository) == ({}, (Path("/work/nets"),))


def test_port_0_is_a_free_one_of_triton_as_of_the_entry_script():
    assert Spec.from_options(port=0, server={"grpc_port": 0}).server == Server()
    assert Spec.from_options(port=0, entry_script="score.py").score.port == 0


@pytest.mark.parametrize("key", ["http_port", "grpc_port", "metrics_port"])
def test_one_port_is_not_given_to_triton_and_to_the_entry_script(key):
    with pytest.raises(SpecError, match=rf"score: port 6789 is the entry script's and, by server\.{key}, Triton's own"):
        Spec.from_options(server={key: 6789}, entry_script="score.py")


def test_replacing_checks_the_new_values():
    with pytest.raises(SpecError, match="The changes cannot be used"):
        Spec().replace(server={"http_port": -1})


def test_a_mapping_of_any_kind_will_do_as_a_section():
    assert Spec.from_options(server=MappingProxyType({"http_port": 8000})).server.http_port == 8000


names = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0~"), min_size=1, max_size=8)
paths = st.lists(parts.filter(str.strip), min_size=1, max_size=3).map("/".join)
triton_keys = st.dictionaries(st.sampled_from(["backend", "max_batch_size", "parameters"]), texts | st.integers())


@given(
    name=names,
    models=st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True),
        paths | st.builds(lambda path, keys: {"path": path, **keys}, paths, triton_keys),
        max_size=3,
    ),
    repository=st.lists(paths, max_size=3),
    gpus=st.sampled_from(["auto", "none", "all"]) | st.lists(st.integers(0, 7), min_size=1),
    variables=st.dictionaries(texts.filter(lambda name: name and not {*name} & {*"=\0"}), texts, max_size=3),
    memory=st.none() | st.floats(0.001, 1e6),
    flags=st.dictionaries(names, texts | st.integers() | st.booleans() | st.lists(texts, min_size=1), max_size=3),
)
def test_any_spec_survives_being_written_and_read(*, name, models, repository, gpus, variables, memory, flags):
    spec = Spec.from_options(
        name=name,
        models=models,
        repository=repository,
        gpus=gpus,
        environment={"variables": variables},
        resources={"memory_gb": memory},
        server={"flags": flags},
        base=BASE,
    )

    assert Spec.from_yaml(spec.to_yaml()) == spec


def test_an_entry_script_is_taken_away():
    spec = Spec.from_options(score={"entry_script": "score.py", "port": 0}, name="a")

    assert spec.replace(score=None) == Spec.from_options(name="a")
    assert spec.replace(name="b").score == spec.score
