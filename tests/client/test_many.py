"""Many requests at once, and requests that are awaited, against a real server."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import numpy as np
import pytest

from tritonnb.errors import InferenceError, RequestRefusedError, ServerUnreachableError
from tritonnb.render import progress

pytestmark = pytest.mark.requires("engine")

MOODY = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [2] }
output { name: "y" data_type: TYPE_FP32 dims: [2] }
instance_group [{ count: 3 kind: KIND_CPU }]
"""
ANSWER_BY_MOOD = """
        answers = []
        for r in requests:
            x = pb_utils.get_input_tensor_by_name(r, "x").as_numpy()
            if x.max() >= 1000:
                time.sleep(float(x.max()) - 1000)
            if x.min() < 0:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("the ink has run out")))
            else:
                answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return answers
"""


PAIR = """
max_batch_size: 4
input { name: "number" data_type: TYPE_FP32 dims: [2] }
input { name: "word" data_type: TYPE_STRING dims: [2] }
output { name: "NUMBER" data_type: TYPE_FP32 dims: [2] }
output { name: "WORD" data_type: TYPE_STRING dims: [2] }
"""
ANSWER_PAIR = """
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(t.name().upper(), t.as_numpy()) for t in r.inputs()])
            for r in requests
        ]
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory, write_python_model):
    """Return a model repository: a model that fails below 0 and sleeps from 1000 up, and one with two inputs."""
    repository = tmp_path_factory.mktemp("many") / "repository"
    write_python_model(repository, "moody", MOODY, ANSWER_BY_MOOD)
    write_python_model(repository, "pair", PAIR, ANSWER_PAIR)
    return repository


def rows(*values):
    return np.repeat(np.array(values, dtype=np.float32)[:, None], 2, axis=1)


def items(*values):
    return [{"x": rows(value)} for value in values]


def first_values(results):
    return [float(result["y"][0, 0]) for result in results]


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_results_come_in_the_order_of_the_items(deployment, concurrency):
    later = [1000.05, *range(60)]  # the first takes longer than the others

    results = deployment.infer_many("moody", items(*later), concurrency=concurrency)

    assert first_values(results) == pytest.approx(later)


def test_a_batch_larger_than_the_model_takes_is_sent_in_parts_and_joined(deployment):
    numbers = rows(*range(11))
    words = np.array([f"word {n}" for n in range(22)], dtype=object).reshape(11, 2)

    result = deployment.infer_many("pair", {"number": numbers, "word": words})

    np.testing.assert_array_equal(result["NUMBER"], numbers)
    assert result["WORD"].tolist() == [[word.encode() for word in row] for row in words]
    assert (result.model, result.version) == ("pair", "1")


def test_lists_go_in_parts_too_with_all_options(deployment):
    words = [["grün", "rot"]] * 5
    given = {"number": [[n, n + 0.5] for n in range(5)], "word": words}

    result = deployment.infer_many("pair", given, outputs=["WORD"], request_id="7", decode=True)

    assert result["WORD"].tolist() == words
    assert (list(result), result.id) == (["WORD"], "7")


def test_items_may_each_be_larger_than_a_batch(deployment):
    sizes = [1, 9, 4, 5, 12]

    results = deployment.infer_many("moody", [{"x": rows(*range(size))} for size in sizes], concurrency=2)

    assert [len(result["y"]) for result in results] == sizes


def test_items_are_taken_only_as_they_are_needed(deployment):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield {"x": rows(1)}

    results = deployment.infer_many("moody", endless(), concurrency=2)
    assert not taken
    for _ in range(50):
        next(results)
    results.close()

    assert 50 <= len(taken) <= 50 + 4 * 2


def test_no_items_give_no_results(deployment):
    assert list(deployment.infer_many("moody", [])) == []


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        ({"x": rows(-1)}, RequestRefusedError, "item 30: model 'moody' answered with an error: the ink has run out"),
        ({"x": rows(1, 1, 1, 1, 1, -1)}, RequestRefusedError, "item 30, rows 4 to 7: .* the ink has run out"),
        ({"x": np.zeros((1, 3), np.float32)}, InferenceError, "item 30: the input 'x' has the shape"),
        ({"x": np.zeros((9, 3), np.float32)}, InferenceError, "item 30: the input 'x' has the shape"),
        ({"z": rows(1)}, InferenceError, "item 30: model 'moody' has no input 'z'"),
        (rows(1), InferenceError, "item 30: inputs by name are expected, not a ndarray"),
        ({"x": rows(1001)}, ServerUnreachableError, r"item 30: .*did not answer .* within 0\.5 s"),
    ],
    ids=["the model", "rows of a large one", "shape", "shape of a large one", "name", "no inputs", "timeout"],
)
def test_the_first_item_that_fails_ends_all_after_the_results_of_those_before_it(deployment, bad, kind, message):
    before = deployment.statistics("moody")[0]["inference_stats"]["success"]["count"]
    values = list(range(30))
    got = []

    results = deployment.infer_many("moody", [*items(*values), bad, *items(*range(100))], timeout=0.5)
    with pytest.raises(kind, match=message):
        got.extend(results)

    assert first_values(got) == values
    with pytest.raises(kind, match=message):  # what broke off never looks complete
        next(results)
    after = deployment.statistics("moody")[0]["inference_stats"]["success"]["count"]
    assert after - before < 80  # far from all that followed was sent
    assert first_values([deployment.infer("moody", {"x": rows(5)})]) == [5]


def test_what_the_items_themselves_raise_comes_in_its_turn(deployment):
    def broken():
        yield from items(1, 2)
        raise KeyError("no third")

    got = []
    with pytest.raises(KeyError, match="no third"):
        got.extend(deployment.infer_many("moody", broken()))

    assert first_values(got) == [1, 2]


def test_an_interrupt_ends_all_and_the_next_request_works(deployment):
    under_way = threading.Event()

    def interrupt():
        under_way.wait(10)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def slow_in_the_end():
        yield from items(1, 2, 3)
        yield {"x": rows(1001.5)}
        under_way.set()
        yield from items(*range(500))

    thread = threading.Thread(target=interrupt)
    thread.start()
    begun = time.monotonic()
    got = []
    with pytest.raises(KeyboardInterrupt):
        got.extend(deployment.infer_many("moody", slow_in_the_end(), concurrency=2))
    thread.join()

    assert time.monotonic() - begun < 1.5
    assert first_values(got) == [1, 2, 3][: len(got)]
    assert first_values([deployment.infer("moody", {"x": rows(5)})]) == [5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"sequence_id": 5}, "one after another"),
        ({"protocol": "grpc"}, "over HTTP"),
        ({"tiemout": 1}, "no option 'tiemout'"),
    ],
)
def test_what_many_requests_cannot_have_is_refused_at_once(deployment, options, message):
    with pytest.raises(InferenceError, match=message) as caught:
        deployment.infer_many("moody", items(1), **options)
    assert caught.value.hint or "concurrency" in options


def test_progress_is_shown_of_what_takes_long_unless_it_is_not_wanted(deployment, monkeypatch, capsys):
    monkeypatch.setattr(progress, "AFTER_S", 0.0)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.delenv("TRITONNB_NONINTERACTIVE")

    list(deployment.infer_many("moody", items(*range(5)), progress=False))
    silent = capsys.readouterr().err
    list(deployment.infer_many("moody", items(*range(5)), concurrency=1))

    assert silent == ""
    assert "Requests to 'moody': 3 answered 60%" in capsys.readouterr().err


def test_many_may_be_awaited_at_once_while_the_loop_goes_on(deployment):
    async def ask_all():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        begun = time.monotonic()
        slow = [deployment.ainfer("moody", {"x": rows(1000.4 + n / 100)}) for n in range(3)]
        results = await asyncio.gather(*slow, *(deployment.ainfer("moody", {"x": rows(n)}) for n in range(40)))
        ticking.cancel()
        return results, ticks, time.monotonic() - begun

    results, ticks, seconds = asyncio.run(ask_all())

    assert first_values(results) == pytest.approx([1000.4, 1000.41, 1000.42, *range(40)])
    assert seconds < 1.2  # the three slow ones, side by side
    assert ticks > 10


def test_a_cancelled_request_leaves_no_answer_for_the_next_one(deployment):
    async def cancel_some():
        tasks = [asyncio.create_task(deployment.ainfer("moody", {"x": rows(1000.3)})) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        return ended, await asyncio.gather(*(deployment.ainfer("moody", {"x": rows(n)}) for n in range(40)))

    ended, results = asyncio.run(cancel_some())

    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    assert first_values(results) == list(range(40))


def test_an_awaited_request_raises_what_infer_raises(deployment):
    with pytest.raises(InferenceError, match="no input 'z'"):
        asyncio.run(deployment.ainfer("moody", {"z": rows(1)}))
    with pytest.raises(RequestRefusedError, match="ink"):
        asyncio.run(deployment.ainfer("moody", {"x": rows(-1)}))
