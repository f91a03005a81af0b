"""Every verb as a magic, against one deployment."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tritonnb as tn
from tritonnb.errors import DeploymentError, ServerError, SpecError, UsageError
from tritonnb.magics import MAGICS
from tritonnb.magics.options import PARSERS

pytestmark = pytest.mark.requires("engine")


def test_every_magic_is_in_the_table_of_options_and_the_other_way_round():
    named = {name for magics in MAGICS for kind in magics.magics.values() for name in kind}
    assert named == set(PARSERS)


def test_help_lists_every_magic_and_shows_the_help_of_one(serving, capsys):
    overview = serving.run("%triton_help")
    for parser in PARSERS.values():
        assert re.search(rf"^  {parser.prog} +{re.escape(parser.description)}$", repr(overview), re.MULTILINE)
        assert parser.prog in overview._repr_html_()
    capsys.readouterr()
    for verb in ("models", "triton_models", "%triton_models"):
        assert serving.run(f"%triton_help {verb}") is None
        assert capsys.readouterr().out == PARSERS["triton_models"].format_help()
    with pytest.raises(UsageError, match=r"no magic %triton_modles.*\n.*did you mean 'triton_models'"):
        serving.run("%triton_help modles")


def test_models_are_listed_with_the_reason_of_what_failed(serving):
    models = serving.run("%triton_models")
    assert isinstance(models, list)
    assert [(model.name, model.state) for model in models] == [("broken", "UNAVAILABLE"), ("square", "READY")]
    title, broken, square = repr(models).splitlines()
    assert title == "Models: 1 of 2 ready"
    assert re.fullmatch(r"  broken  1  UNAVAILABLE  \S.*", broken)
    assert square == "  square  1  READY"


def test_a_deployment_with_a_bad_model_names_it_with_its_reason(serving):
    assert re.match(r"<Deployment 'serving': degraded, embedded engine>\n  broken: \S", repr(tn.deployment("serving")))


def test_a_configuration_is_a_dict_that_shows_what_it_says(serving):
    config = serving.run("%triton_config square")
    assert isinstance(config, dict)
    assert config["backend"] == "onnxruntime"
    shown = repr(config)
    assert shown.startswith("Configuration of square, as the server completed it\n  platform: onnxruntime_onnx\n")
    assert "  - name: x\n    data_type: TYPE_FP32\n    dims: [4]\n" in shown
    assert "sequence_batching" not in shown


def test_a_configuration_is_printed_as_a_config_pbtxt_that_the_server_takes_back(serving, capsys):
    def said():
        config = dict(serving.run("%triton_config square"))
        groups = [{**group, "name": ""} for group in config.pop("instance_group")]  # named differently when written
        return config, groups

    before = said()
    capsys.readouterr()
    assert serving.run("%triton_config square --pbtxt") is None
    printed = capsys.readouterr().out
    assert 'backend: "onnxruntime"' in printed
    serving.run(f"%%triton_pbtxt square\n{printed}")
    assert said() == before


def test_statistics_count_inferences_and_leave_times_out_of_stable_output(serving, monkeypatch):
    serving.run("%triton_load square")
    serving.run("%triton_infer square x=$x")
    dep = tn.deployment("serving")
    while not dep.statistics("square")[0]["inference_count"]:
        pass
    statistics = serving.run("%triton_statistics square")
    assert statistics[0]["inference_stats"]["success"]["count"] == 1
    assert [row.split() for row in repr(statistics).splitlines()[1:]] == [
        ["Model", "Version", "Inferences", "Executions", "Failures"],
        ["square", "1", "2", "1", "0"],
    ]
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "")
    header, row = repr(statistics).splitlines()[1:]
    assert header.endswith("Mean queue ms  Mean compute ms")
    assert all(float(time) > 0 for time in row.split()[-2:])
    assert [entry["name"] for entry in serving.run("%triton_statistics")] == ["square"]


def test_metrics_are_text_that_a_pattern_narrows_down(serving, monkeypatch):
    serving.run("%triton_infer square x=$x")
    metrics = serving.run("%triton_metrics")
    assert "# TYPE nv_inference_count counter" in metrics
    narrow = serving.run("%triton_metrics ^nv_inference_count")
    assert re.fullmatch(r'nv_inference_count\{model="square",version="1"\} \d+\n', narrow)
    assert repr(narrow).startswith('Metrics: 1\n  nv_inference_count  model="square",version="1"  ')
    assert {line.partition("{")[0] for line in serving.run("%triton_metrics duration_us").splitlines()} > {
        "nv_inference_queue_duration_us"
    }
    assert repr(serving.run("%triton_metrics queue_duration")).splitlines()[1].endswith('version="1"')
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "")
    assert re.search(r'version="1"  \d+$', repr(serving.run("%triton_metrics queue_duration")))
    with pytest.raises(SpecError, match="no regular expression"):
        serving.run("%triton_metrics *")


def test_logs_are_text_with_as_many_lines_as_asked_for(serving, monkeypatch):
    assert len(serving.run("%triton_logs --lines 3").splitlines()) == 3
    serving.run("%config TritonMagics.log_lines = 2")
    logs = serving.run("%triton_logs")
    assert len(logs.splitlines()) == 2
    assert not re.search(r"\d\d:\d\d:\d\d", repr(logs))
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "")
    assert repr(logs) == str(logs)


def test_status_shows_deployments_and_connections_at_a_glance(serving, monkeypatch):
    serving.shell.user_ns.update(url=tn.deployment("serving").url, key=tn.deployment("serving").get_keys()[0])
    connection = serving.run("%triton_connect $url --key $key --name elsewhere")
    assert repr(connection) == "<Connection 'elsewhere': ready>"
    assert [row.split()[:5] for row in repr(serving.run("%triton_status")).splitlines()] == [
        ["2", "deployments"],
        ["Name", "State", "Models", "Engine", "Owner"],
        ["serving", "degraded", "1/2", "embedded", "this"],
        ["elsewhere", "degraded", "1/2", "connection", "-"],
    ]
    monkeypatch.setenv("TRITONNB_STABLE_OUTPUT", "")
    assert re.search(r"this process +\d+ (s|min) +\d+ \d+ \d+ +\d+ MB", repr(serving.run("%triton_status")))
    assert serving.run("%triton_models --on elsewhere") == serving.run("%triton_models --on elsewhere")
    with pytest.raises(DeploymentError, match="'elsewhere' is a connection"):
        serving.run("%triton_logs --on elsewhere")
    serving.run("%triton_delete elsewhere")
    assert tn.deployment().name == "serving"


def test_a_key_that_is_wrong_is_told_without_the_key(serving):
    serving.shell.user_ns.update(url=tn.deployment("serving").url, key="wrong-key")
    connection = serving.run("%triton_connect $url --key $key --name wrong")
    try:
        with pytest.raises(ServerError) as refused:
            serving.run("%triton_load square --on wrong")
        assert "wrong-key" not in str(refused.value) + repr(connection)
    finally:
        connection.delete()


def test_models_are_unloaded_and_loaded_by_name(serving, capsys):
    capsys.readouterr()
    assert serving.run("%triton_unload square --dependents") is None
    assert capsys.readouterr().out == "Model 'square' unloaded.\n"
    with pytest.raises(tn.TritonNbError):
        serving.run("%triton_infer square x=$x")
    models = serving.run("%triton_load square")
    assert [model.state for model in models if model.name == "square"] == ["READY"]
    with pytest.raises(tn.TritonNbError, match="broken"):
        serving.run("%triton_load square broken")
    with pytest.raises(DeploymentError, match="did you mean 'square'"):
        serving.run("%triton_load sqare")


@pytest.mark.parametrize(
    "line",
    [
        "help", "health", "models", "metadata square", "config square", "statistics", "metrics", "status",
        "infer square x=$x", "doctor",
    ],
)  # fmt: skip
def test_what_a_magic_returns_reads_well_as_text_and_as_an_accessible_table(serving, line):
    shown = serving.shell.display_formatter.format(serving.run(f"%triton_{line}"))[0]
    assert re.search(r"<caption>\s*\S", shown["text/html"])
    assert 'scope="col"' in shown["text/html"]
    assert 'scope="row"' in shown["text/html"]
    assert not shown["text/plain"].startswith("<tritonnb")
    assert len(shown["text/plain"].splitlines()) > 1


def test_a_semicolon_silences_the_result_also_where_the_line_is_no_python(serving, capsys):
    for line in ("%triton_health ;", "%triton_health --on serving ;", "%triton_infer square x='[[0,1,2,3]]';"):
        assert serving.run(line) is None
    assert capsys.readouterr().out == ""


def test_the_same_deploy_again_says_in_a_line_that_it_reuses_and_another_spec_what_differs(serving, capsys):
    source = tn.deployment("serving").spec.repository[0]
    capsys.readouterr()
    again = serving.run(f"again = %triton_deploy {source} --name serving --engine embedded\nagain")
    assert again is tn.deployment("serving")
    assert capsys.readouterr().out.splitlines()[0] == "Deployment 'serving' runs already with this spec: reused."
    with pytest.raises(DeploymentError, match=r"(?s)\+auth: true.*--replace"):
        serving.run(f"%triton_deploy {source} --name serving --engine embedded --auth")


@pytest.fixture
def square_file(tmp_path, square):
    (tmp_path / "square.onnx").write_bytes(square)
    return tmp_path / "square.onnx"


def test_update_takes_a_cell_a_path_or_options_and_keeps_the_rest(serving, square_file, capsys):
    serving.run(f"%triton_deploy {square_file} --name changing --show-output")
    assert "successfully loaded 'square'" in capsys.readouterr().out
    dep = tn.deployment("changing")
    assert serving.run(
        f"%%triton_update changing -o updated\nmodels:\n  narrow:\n    path: {square_file}\n    max_batch_size: 2\n"
    )
    assert serving.shell.user_ns["updated"] is dep
    assert dep.config("narrow")["max_batch_size"] == 2
    assert [model.name for model in dep.models() if model.state == "READY"] == ["narrow"]
    serving.run("%%triton_update changing\nserver: {env: {LEVEL: '1'}}\n")
    assert dep.spec.server.env == {"LEVEL": "1"}
    serving.run(f"%triton_update {square_file} --keep --restart on-failure --on changing")
    assert (dep.spec.keep, dep.spec.restart, list(dep.spec.models)) == (True, "on-failure", [])
    assert dep.spec.server.env == {"LEVEL": "1"}
    assert "kept, this process" in repr(serving.run("%triton_status"))
    with pytest.raises(UsageError, match="nothing to change"):
        serving.run("%triton_update --on changing")
    with pytest.raises(DeploymentError, match=r"No deployment 'chagning'.*\n.*did you mean 'changing'"):
        serving.run("%triton_update --auth --on chagning")
    serving.run("%triton_delete changing")


def test_a_deploy_that_is_not_waited_for_returns_at_once(serving, square_file):
    dep = serving.run(f"%triton_deploy {square_file} --name soon --no-wait")
    assert dep.state == "starting"
    dep.wait_for_deployment()
    np.testing.assert_array_equal(dep.infer("square", {"x": np.ones((1, 4), np.float32)})["y"], np.ones((1, 4)))
    serving.run("%triton_delete soon")
    with pytest.raises(UsageError, match="not allowed with"):
        serving.run(f"%triton_deploy {square_file} --no-wait --show-output")


def test_a_deploy_that_fails_before_everybody_s_eyes_leaves_nothing(serving, tmp_path, capsys):
    (tmp_path / "bad.onnx").write_bytes(b"no ONNX")
    with pytest.raises(tn.TritonNbError, match="bad"):
        serving.run(f"%triton_deploy {tmp_path / 'bad.onnx'} --name bad --show-output")
    assert "bad" not in [dep.name for dep in tn.deployments()]


def test_config_shows_the_settings_and_they_are_used(serving, capsys, square_file):
    serving.run("%config TritonMagics")
    shown = capsys.readouterr().out
    for setting in ("startup_timeout", "engine", "log_lines"):
        assert f"TritonMagics.{setting}" in shown
    serving.run("%config TritonMagics.engine = 'embedded'\n%config TritonMagics.startup_timeout = 0.01")
    try:
        with pytest.raises(DeploymentError, match=r"not ready after 0\.01 s"):
            serving.run(f"%triton_deploy {square_file} --name hurried")
    finally:
        serving.run("%config TritonMagics.engine = 'auto'\n%config TritonMagics.startup_timeout = 300.0")


def test_the_doctor_examines_the_machine(serving):
    assert serving.run("%triton_doctor").findings
