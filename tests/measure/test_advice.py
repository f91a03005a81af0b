from dataclasses import replace

import pytest
from measured import point, report

from tritonnb.errors import ModelConfigError
from tritonnb.measure.advice import recommend
from tritonnb.measure.point import Point, ServerTimes


def told(advice, words):
    return [sentence for sentence in advice.sentences if words in sentence]


def test_the_most_throughput_within_a_limit_is_recommended_and_the_knee_explained():
    advice = report().recommend(p95_ms=10)
    assert (advice.best.batch_size, advice.best.concurrency) == (4, 1)
    assert advice.sentences[0] == (
        "Most throughput within p95 10 ms: batch 4, concurrency 1, 444 inferences/s at p95 9.81 ms."
    )
    assert advice.sentences[1] == (
        "The knee is at batch 4, concurrency 1, 444 inferences/s at p95 9.81 ms; the next load, batch 4, "
        "concurrency 2, brings +12% throughput and +78% mean latency."
    )


def test_without_a_limit_it_is_the_most_throughput_of_all():
    advice = report().recommend()
    assert advice.best.inferences_per_s == max(p.inferences_per_s for p in report().points)
    assert advice.sentences[0].startswith("Most throughput: batch 4")


def test_a_limit_that_no_point_keeps_names_the_nearest():
    advice = report().recommend(p95_ms=1)
    assert advice.best is None
    assert advice.sentences[0].startswith("No point keeps p95 within 1 ms; the nearest is batch 1, concurrency 1,")


def test_a_knee_at_the_highest_load_may_lie_further_up():
    assert told(report((1,), (1,)).recommend(), "it may lie further up")


def test_where_every_load_failed_nothing_is_recommended():
    failed = Point.from_latencies([], batch_size=1, concurrency=1, duration_s=1, errors={"HTTP 500": 5})
    advice = report(points=(failed,)).recommend(p95_ms=5)
    assert (advice.best, advice.knee, advice.changes) == (None, None, {})
    assert "nothing to recommend" in advice.sentences[0]


def test_where_the_limit_is_kept_only_with_failures_the_nearest_is_named():
    advice = report(points=(point(1, 1, errors={"HTTP 500": 5}), point(1, 4))).recommend(p95_ms=7)
    assert "No point keeps p95 within 7 ms" in advice.sentences[0]


@pytest.mark.parametrize(
    ("limited_by", "load", "changes"),
    [
        ("queue", (1, 8), {}),
        ("compute", (4, 1), {}),
        ("network", (1, 1), {"server": ServerTimes(1, 10.0, 10.0, 1000.0, 10.0)}),
        ("client", (1, 1), {"client": replace(point(1, 1).client, idle_share=0.02)}),
        ("", (1, 1), {"server": None}),
    ],
)
def test_what_limits_is_where_the_time_goes(limited_by, load, changes):
    advice = report(points=(point(*load, **changes),)).recommend()
    assert advice.limited_by == limited_by
    assert len(told(advice, "What limits it:")) == bool(limited_by)


def test_a_queue_with_idle_cpus_asks_for_a_measurement_with_one_more_instance():
    assert told(report((1,), (8,)).recommend(), "measure with 1 and 2 instances")


def test_a_queue_with_busy_cpus_does_not():
    busy = report(points=(point(1, 8, machine_cpu_share=0.97),)).recommend()
    assert told(busy, "the machine's CPUs are all in use")
    assert told(busy, "More instances would not help")


def test_a_measured_gain_of_more_instances_is_put_into_the_config():
    measured = report(points=tuple(point(1, 8, instances=count) for count in (1, 2)))
    advice = measured.recommend()
    assert told(advice, "Serve 2 instances instead of 1: 2.0 times the throughput of the best with 1.")
    assert "+  count: 2" in advice.config_change().diff
    assert "-  count: 1" in advice.config_change().diff


def test_more_instances_that_gain_hardly_anything_are_not_advised():
    points = point(1, 8), point(1, 8, instances=2)
    slower = replace(points[1], duration_s=points[0].duration_s / 1.05)
    advice = report(points=(points[0], slower)).recommend()
    assert advice.changes == {}
    assert told(advice, "2 instances are hardly faster than 1.")


def test_what_keeps_the_limit_alone_speaks_for_a_change():
    assert "dynamic_batching" in report().recommend(p95_ms=10).changes
    assert report().recommend(p95_ms=7).changes == {}  # only batch 1 keeps it


def test_larger_batches_that_pay_speak_for_dynamic_batching():
    advice = report().recommend()
    assert told(advice, "dynamic_batching")[0].endswith("batch 4 gives 2.5 times the throughput of batch 1.")
    assert "+dynamic_batching {" in advice.config_change().diff


def test_larger_batches_that_do_not_pay_do_not():
    flat = report(points=(point(1, 1), replace(point(2, 1), duration_s=2 * point(1, 1).duration_s)))
    assert "dynamic_batching" not in flat.recommend().changes


@pytest.mark.parametrize("scheduling", ["sequence_batching", "dynamic_batching"])
def test_a_model_with_a_batcher_is_not_given_another(scheduling):
    measured = report()
    advice = replace(measured, config={**measured.config, scheduling: {}}).recommend()
    assert advice.changes.get("dynamic_batching") != {}
    assert not told(advice, "let the server join them")


def batching(**changes):
    measured = report(points=(point(1, 8, **changes),))
    return replace(measured, config={**measured.config, "dynamic_batching": {}}).recommend()


def test_dynamic_batching_that_works_is_told():
    advice = batching(executed_batches={4: 100})
    assert told(advice, "Dynamic batching works: the model ran batches of 4 on average.")
    assert advice.changes == {}


def test_dynamic_batching_that_found_nothing_to_join_is_given_a_delay_from_the_compute_time():
    advice = batching()
    assert advice.changes == {"dynamic_batching": {"max_queue_delay_microseconds": 500}}
    assert "+  max_queue_delay_microseconds: 500" in advice.config_change().diff


def test_batches_that_pay_up_to_the_most_that_is_allowed_ask_for_more():
    assert report((4, 8), (1,)).recommend().changes["max_batch_size"] == 16
    assert "max_batch_size" not in report((2, 4), (1,)).recommend().changes


def test_an_ensemble_is_sent_to_its_models():
    advice = report(config={"name": "steady", "ensemble_scheduling": {"step": []}}).recommend()
    assert advice.changes == {}
    assert told(advice, "measure the models that it is made of")


def test_a_point_that_did_not_settle_is_doubted():
    unsettled = point(1, 1, stability=replace(point(1, 1).stability, stable=False))
    assert told(report(points=(unsettled,)).recommend(), "did not settle")


def test_nothing_to_change_is_said_so():
    change = report((1,), (1,)).recommend().config_change()
    assert (change.diff, repr(change)) == ("", "Nothing to change in the config.pbtxt of steady.")


def test_a_config_of_a_newer_server_is_told_to_be_unknown():
    with pytest.raises(ModelConfigError, match="hovercraft"):
        recommend(report(config={"name": "steady", "hovercraft": 1})).config_change()


def test_under_stable_output_only_the_question_is_shown(monkeypatch):
    advice = report().recommend(p95_ms=20)
    assert repr(advice) == "Recommendation for steady"
    monkeypatch.delenv("TRITONNB_STABLE_OUTPUT")
    assert repr(advice).splitlines() == [
        "Recommendation for steady, p95 within 20 ms",
        *(f"  {sentence}" for sentence in advice.sentences),
    ]
    assert "<p>Most throughput within" in advice._repr_html_()
