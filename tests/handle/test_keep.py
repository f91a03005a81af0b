"""Names are unique, a server that runs is reused, and a deployment that is kept outlives its maker."""

from __future__ import annotations

import shutil
import signal
import time

import numpy as np
import pytest

import tritonnb as tn
from tritonnb import records
from tritonnb.deploying import find, launch
from tritonnb.errors import DeploymentError, TritonNbError

pytestmark = pytest.mark.requires("engine")

X = np.arange(8, dtype=np.float32).reshape(2, 4)


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_processes_that_race_for_a_name_one_gets_a_server_and_the_other_a_clear_answer(
    attempt, repository, name, notebook
):
    notebooks = notebook(), notebook()
    for each in notebooks:
        each.run("1")  # both are up
    for each in notebooks:
        each.begin(f"tn.deploy({str(repository)!r}, name={name!r}).state")
    answers = sorted(each.answer() for each in notebooks)
    assert answers[0] == "'ready'"
    assert answers[1].startswith(f"DeploymentError: A deployment {name!r} runs in another notebook (process ")
    assert f"tritonnb stop {name}" in answers[1]
    assert [record.name for record in records.records()].count(name) == 1


def test_of_two_processes_that_race_for_a_kept_name_both_get_the_same_server(repository, name, notebook):
    notebooks = notebook(), notebook()
    for each in notebooks:
        each.begin(f"tn.deploy({str(repository)!r}, name={name!r}, keep=True).url")
    first, second = (each.answer() for each in notebooks)
    assert first == second
    assert first.startswith("'http://127.0.0.1:")
    assert [record.name for record in records.records()].count(name) == 1


def test_a_name_is_free_again_within_three_seconds_after_its_owner_was_killed_and_so_is_its_port(
    repository, name, notebook, left_behind, eventually
):
    owner = notebook()
    url = owner.run(f"tn.deploy({str(repository)!r}, name={name!r}).url")
    port = int(url.rstrip("'").rpartition(":")[2])
    with pytest.raises(DeploymentError, match="runs in another notebook"):
        tn.deploy(repository, name=name)
    owner.kill()
    began = time.monotonic()
    with tn.deploy(repository, name=name, server={"http_port": port}) as dep:
        assert dep.url.endswith(f":{port}")
        assert time.monotonic() - began < 6  # three to be free, the rest to come up
    assert eventually(lambda: not left_behind(name), within=3)


def test_a_server_that_does_not_answer_is_replaced_by_one_that_does(repository, name, server_of):
    first = launch(repository, name=name)
    server_of(name).send_signal(signal.SIGSTOP)
    assert repr(first.deployment.health()).startswith("Health: failed (server not live")
    began = time.monotonic()
    second = launch(repository, name=name)
    assert time.monotonic() - began < 20
    assert not second.reused
    assert second.deployment.infer("square", {"x": X})["y"].shape == (2, 4)
    assert first.deployment.state == "stopped"


def test_a_deployment_that_has_failed_gives_its_name_to_a_new_one(repository, name, server_of, eventually):
    dep = tn.deploy(repository, name=name, keep=True)
    server_of(name).kill()
    assert eventually(lambda: dep.state == "failed")
    assert not launch(repository, name=name, keep=True).reused


def test_a_refused_deploy_leaves_what_this_kernel_knows_as_it_was(repository, name, notebook):
    notebook().run(f"tn.deploy({str(repository)!r}, name={name!r}, keep=True)")
    before = tn.deployments()
    with pytest.raises(DeploymentError, match=r"runs already with another spec"):
        tn.deploy(repository, name=name)
    assert tn.deployments() == before


# Kept -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["end", "kill"])
def test_a_kept_deployment_outlives_its_process_and_is_reused_and_deleted_from_another(
    end, repository, name, notebook, left_behind
):
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(repository)!r}, name={name!r}, keep=True)")
    url = maker.run("dep.url")
    getattr(maker, end)()
    outcome = launch(repository, name=name, keep=True)
    dep = outcome.deployment
    assert outcome.reused
    assert repr(dep.url) == url
    np.testing.assert_array_equal(dep.infer("square", {"x": X})["y"], X * X)
    dep.delete()
    assert not left_behind(name)


def test_a_kept_deployment_is_found_by_name_with_all_that_a_handle_does(repository, name, notebook, add_model, square):
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(repository)!r}, name={name!r}, keep=True)")
    dep = find(name)
    assert tn.deployment(name) is dep
    assert dep.state == "ready"
    assert dep.health().ready
    assert repr(dep.get_keys()) == maker.run("dep.get_keys()")
    assert "successfully loaded 'square'" in dep.get_logs()
    assert "nv_inference_request_success" in dep.metrics()
    add_model("second", "model.onnx", square)
    dep.reload()
    assert dep.infer("second", {"x": X})["y"].shape == (2, 4)
    dep.load("square")
    dep.update(auth=True)
    assert dep.infer("square", {"x": X})["y"].shape == (2, 4)
    # The first process's server was replaced: its handle says so, and its name leads to the new one.
    assert "has failed: It was stopped from elsewhere" in maker.try_to("dep.infer('square', {'x': x})")
    assert maker.run(f"deploying.find({name!r}).infer('square', {{'x': x}})['y'].shape") == "(2, 4)"
    dep.delete()
    assert maker.run("dep.state") == "'failed'"
    assert "stopped from elsewhere" in maker.try_to("dep.models()")


def test_a_kept_deployment_is_found_while_its_models_still_load(repository, name, notebook, slow):
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(repository)!r}, name={name!r}, keep=True, wait=False)")
    outcome = launch(repository, name=name, keep=True, wait=False)
    assert outcome.reused
    assert outcome.deployment.state == "starting"
    with pytest.raises(DeploymentError, match="still starting"):
        outcome.deployment.infer("slow", {"x": X[0]})
    slow.touch()
    outcome.deployment.wait_for_deployment(timeout=20)
    assert outcome.deployment.state == "ready"
    assert outcome.deployment.infer("slow", {"x": X[0]})["y"].shape == (4,)


def test_a_maker_that_is_killed_while_its_models_load_leaves_the_rest_to_whoever_finds_them(
    repository, name, notebook, slow, eventually
):
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(repository)!r}, name={name!r}, keep=True, wait=False)")
    maker.kill()
    slow.touch()
    dep = find(name)
    dep.wait_for_deployment(timeout=20)
    assert {model.name: model.state for model in dep.models()} == {"slow": "READY", "square": "READY"}


def test_who_finds_a_deployment_knows_what_is_wrong_with_it_and_what_was_unloaded(
    repository, name, notebook, add_model, square
):
    add_model("typo", "model.onnx", square, config='name: "typo"\nmax_batchsize: 4\n')
    add_model("cut", "model.onnx", square[:30])
    add_model("away", "model.onnx", square)
    notebook().run(f"tn.deploy({str(repository)!r}, name={name!r}, keep=True).unload('away')")
    dep = find(name)
    assert dep.state == "degraded"
    assert {model.name for model in dep.models() if model.state == "READY"} == {"square"}
    reasons = {model.name: model.reason for model in dep.models()}
    assert "max_batch_size" in reasons["typo"]
    assert "ONNX" in reasons["cut"]
    assert reasons["square"] == ""
    add_model("cut", "model.onnx", square)
    dep.load("cut")
    assert dep.infer("cut", {"x": X})["y"].shape == (2, 4)


def test_a_model_that_another_process_mended_or_unloaded_is_seen_here_too(
    repository, name, notebook, add_model, square
):
    add_model("cut", "model.onnx", square[:30])
    maker = notebook()
    maker.run(f"dep = tn.deploy({str(repository)!r}, name={name!r}, keep=True)")
    dep = find(name)
    with pytest.raises(DeploymentError, match="not ready"):
        dep.infer("cut", {"x": X})
    add_model("cut", "model.onnx", square)
    maker.run("dep.load('cut')")
    assert dep.infer("cut", {"x": X})["y"].shape == (2, 4)
    assert dep.state == "ready"
    maker.run("dep.unload('cut')")
    assert dep.state == "ready"
    with pytest.raises(TritonNbError, match="cut"):
        dep.infer("cut", {"x": X})


def test_when_the_sources_are_gone_inference_goes_on_and_a_load_says_why_not(
    repository, name, notebook, add_model, square
):
    add_model("second", "model.onnx", square)
    notebook().run(f"tn.deploy({str(repository)!r}, name={name!r}, keep=True)")
    dep = find(name)
    shutil.rmtree(repository / "second")
    with pytest.raises(DeploymentError, match="The files of model 'second' are gone; it serves as it was loaded"):
        dep.load("second")
    dep.load("square")
    assert dep.infer("second", {"x": X})["y"].shape == (2, 4)
    shutil.rmtree(repository)
    for change in (lambda: dep.load("square"), dep.reload):
        with pytest.raises(TritonNbError, match="There is no 'models' in"):
            change()
    assert dep.state == "ready"
    for model in ("square", "second"):
        assert dep.infer(model, {"x": X})["y"].shape == (2, 4)


def test_a_kept_model_in_memory_is_loaded_reloaded_and_updated_by_whoever_finds_it(tmp_path, name, notebook, square):
    (tmp_path / "bytes").write_bytes(square)
    maker = notebook()
    maker.run(f"dep = tn.deploy(open({str(tmp_path / 'bytes')!r}, 'rb').read(), name={name!r}, keep=True)")
    dep = find(name)
    dep.load(name)
    dep.reload()
    dep.update(auth=True)
    assert dep.infer(name, {"x": X})["y"].shape == (2, 4)
