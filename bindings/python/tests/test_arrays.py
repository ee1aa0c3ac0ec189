"""Formats, layouts and kinds of arrays."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import marginals as mg

MODEL = mg.Model("each-query-picks-one", potential="dot")


def test_answers_are_in_the_format_that_came(nodes):
    expected, entropy = MODEL(*nodes[:2]).ask(mg.Mean(nodes[2]), mg.Entropy())
    assert expected.dtype == entropy.dtype == np.float64
    for dtype, digits in [(np.float32, 1e-5), (np.float16, 5e-3)]:
        q, k, v = (x.astype(dtype) for x in nodes)
        mean, nats = MODEL(q, k).ask(mg.Mean(v), mg.Entropy())
        assert mean.dtype == dtype and nats.dtype == np.float32
        np.testing.assert_allclose(mean, expected, rtol=digits, atol=digits)
        np.testing.assert_allclose(nats, entropy, rtol=digits, atol=digits)


def test_bfloat16_is_read_by_its_bits(nodes):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    q, k, v = (x.astype(bfloat16) for x in nodes)
    mean, entropy = MODEL(q, k).ask(mg.Mean(v), mg.Entropy())
    assert mean.dtype == bfloat16 and entropy.dtype == np.float32
    wide = [x.astype(np.float32) for x in (q, k, v)]
    expected, nats = MODEL(*wide[:2]).ask(mg.Mean(wide[2]), mg.Entropy())
    np.testing.assert_array_equal(mean, expected.astype(bfloat16))
    np.testing.assert_array_equal(entropy, nats)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3),
        lambda x: np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1],
        lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
        lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
        lambda x: x.astype(x.dtype.newbyteorder()),
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    ],
    ids=["columns", "transposed", "backwards", "last-backwards", "padded", "swapped", "unaligned"],
)
def test_any_layout_is_read(nodes, layout):
    q, k, v = nodes
    got = MODEL(layout(q), layout(k)).ask(mg.Mean(layout(v)))
    np.testing.assert_allclose(got, MODEL(q, k).ask(mg.Mean(v)), rtol=1e-13)


def test_broadcast_tensors_are_read(nodes):
    q, k, v = nodes
    shared = np.broadcast_to(v[:1], v.shape)
    np.testing.assert_array_equal(MODEL(q, k).ask(mg.Mean(shared)), MODEL(q, k).ask(mg.Mean(shared.copy())))


def test_nothing_is_copied_where_the_strides_allow(rng):
    # 64 MB of keys with values; a pass must not make another 64.
    tracemalloc = pytest.importorskip("tracemalloc")
    x = rng.normal(size=(1, 1, 1 << 16, 64)).astype(np.float32)
    q = x[:, :, :1]
    MODEL(q, x).ask(mg.Mean(x))
    tracemalloc.start()
    MODEL(q, x).ask(mg.Mean(x))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.nbytes / 16, peak


def test_a_mask_may_be_truth_values(nodes):
    q, k, v = nodes
    may = np.tri(5, 7, dtype=bool)
    model = mg.Model("each-query-picks-one", "bias", "dot")
    got = model(q, k, bias=may).ask(mg.Mean(v))
    expected = model(q, k, bias=np.where(may, 0.0, -np.inf)).ask(mg.Mean(v))
    np.testing.assert_array_equal(got, expected)


def test_whole_numbers_of_any_width_are_read(nodes):
    q, k, v = nodes
    model = mg.Model("each-query-picks-one", "segments", "dot")
    segments = [np.array([[0, 0, 1, 1, 1]]), np.array([[0, 0, 0, 1, 1, 1, 1]])]
    answers = [
        model(q, k, segments_q=segments[0].astype(dtype), segments_k=segments[1].astype(dtype)).ask(
            mg.Mean(v)
        )
        for dtype in (np.int64, np.int32, np.uint8, np.int16)
    ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


class Elsewhere:
    """An array of another library, which NumPy knows nothing of but DLPack."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.device = array, device

    def __dlpack__(self, **how):
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.device


def test_other_libraries_are_read_through_dlpack(nodes):
    q, k, v = nodes
    got = MODEL(Elsewhere(q), Elsewhere(k)).ask(mg.Mean(Elsewhere(v)))
    np.testing.assert_array_equal(got, MODEL(q, k).ask(mg.Mean(v)))
    with pytest.raises(mg.errors.DeviceError, match="`k` lies on the device 2"):
        MODEL(q, Elsewhere(k, (2, 0))).ask(mg.Entropy())


def test_sets_of_edges_are_truth_values(rng):
    scores = rng.normal(size=(1, 1, 4, 4))
    draws = mg.Model("spanning-tree", potential="scores")(scores=scores).ask(mg.Samples(5))
    assert draws.dtype == bool and (draws == draws.swapaxes(-1, -2)).all()
    assert (draws.sum((-1, -2)) == 2 * 3).all()


def test_the_interpreter_is_free_while_it_computes(rng):
    x = rng.normal(size=(1, 4, 3000, 64)).astype(np.float32)
    began, ended = threading.Event(), threading.Event()

    def compute():
        began.set()
        MODEL(x, x).ask(mg.Mean(x))
        ended.set()

    thread = threading.Thread(target=compute)
    thread.start()
    began.wait()
    counted = 0
    while not ended.is_set():
        counted += 1
        time.sleep(0.0005)
    thread.join()
    # A pass of tens of milliseconds during which this thread came to run again and again.
    assert counted > 10, counted
