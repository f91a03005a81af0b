import numpy as np
import pytest

from tritonnb.measure.point import Histogram, Latency, Point, ServerTimes


def test_percentiles_of_a_thousand_known_latencies_are_the_ranks_nearest():
    milliseconds = np.arange(1, 1001)
    latency = Latency.of(np.random.default_rng(0).permutation(milliseconds) * 1_000_000)
    assert latency == Latency(500_500, 501_000, 900_000, 950_000, 990_000, 999_000, 1_000_000)


def test_one_latency_is_every_percentile():
    assert Latency.of([7_000]) == Latency(7, 7, 7, 7, 7, 7, 7)


def test_a_percentile_is_a_latency_that_was_measured_not_one_between_two():
    fast_and_slow = [20_000_000] * 95 + [200_000_000] * 5
    latency = Latency.of(fast_and_slow)
    assert {latency.p50_us, latency.p90_us} == {20_000}
    assert {latency.p99_us, latency.p999_us, latency.max_us} == {200_000}
    assert latency.mean_us == pytest.approx(29_000)


def test_a_histogram_counts_every_latency_in_the_bin_that_holds_it():
    latencies = np.random.default_rng(1).lognormal(6, 0.7, 5000)
    histogram = Histogram.of(latencies * 1000)
    assert list(histogram.counts) == np.histogram(latencies, histogram.edges_us)[0].tolist()
    assert histogram.edges_us[1] / histogram.edges_us[0] == pytest.approx(10 ** (1 / 48))


def test_histograms_of_different_latencies_share_their_bins():
    low, high = Histogram.of([1_000, 1_000_000]), Histogram.of([100_000])
    assert high.edges_us[0] in low.edges_us


@pytest.mark.parametrize("first_ns", [1_000_000, 1_030_000])
def test_few_requests_are_shown_in_wider_bins_without_losing_any(first_ns):
    fine = Histogram.of(np.linspace(first_ns, 3e6, 40))
    wide = fine.readable()
    assert len(wide.counts) < len(fine.counts) / 2
    assert list(wide.counts) == np.histogram(np.linspace(first_ns, 3e6, 40) / 1000, wide.edges_us)[0].tolist()
    many = Histogram.of(np.linspace(first_ns, 3e6, 4000))
    assert many.readable() is many


def test_a_latency_of_zero_is_counted():
    assert sum(Histogram.of([0, 1_000]).counts) == 2


def test_throughput_counts_requests_that_were_answered_well_and_their_batches():
    point = Point.from_latencies([1e6] * 90, batch_size=4, concurrency=2, duration_s=3, errors={"HTTP 500": 10})
    assert (point.requests, point.failed) == (90, 10)
    assert (point.requests_per_s, point.inferences_per_s) == (30, 120)


def test_what_the_server_does_not_account_for_is_the_network():
    server = ServerTimes(10, queue_us=100, compute_input_us=20, compute_infer_us=500, compute_output_us=30)
    point = Point.from_latencies([1e6] * 10, batch_size=1, concurrency=1, duration_s=1, server=server)
    assert server.total_us == 650
    assert point.network_us == pytest.approx(350)


def test_the_network_never_takes_less_than_nothing():
    server = ServerTimes(10, queue_us=0, compute_input_us=0, compute_infer_us=2000, compute_output_us=0)
    assert Point.from_latencies([1e6], batch_size=1, concurrency=1, duration_s=1, server=server).network_us == 0


def test_the_mean_executed_batch_weighs_sizes_by_how_often_they_ran():
    point = Point.from_latencies([1e6], batch_size=1, concurrency=8, duration_s=1, executed_batches={1: 2, 8: 2})
    assert point.mean_executed_batch == 4.5


def test_a_point_where_every_request_failed_has_counts_but_no_latency():
    point = Point.from_latencies([], batch_size=1, concurrency=1, duration_s=1, errors={"refused": 3})
    assert (point.requests, point.failed, point.requests_per_s) == (0, 3, 0)
    assert (point.latency, point.histogram, point.network_us, point.mean_executed_batch) == (None, None, None, None)
