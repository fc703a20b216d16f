"""The sparse road: the same entries as the dense rule, however it is tiled and on either road."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.dictionaries.activation_rules import GroupMaxRule, LinearRule, ThresholdRule, TopKRule
from backend.dictionaries.sparse_encoder import borrow_buffer, encode_tiles

D_SAE = 1200  # more than twice the number of groups, and not a multiple of it

RULES = {
    "relu": ThresholdRule(),
    "jumprelu": ThresholdRule(torch.linspace(0, 3, D_SAE)),
    "topk": TopKRule(32),
    "abstopk": TopKRule(32, by_magnitude=True),
    "topk 1": TopKRule(1),
    "topk of many": TopKRule(700),
    "topk of all": TopKRule(D_SAE),
    "groupmax": GroupMaxRule(40),
    "linear": LinearRule(),
}


def case(
    n: int = 70, d: int = 24, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    return x, torch.randn(d, D_SAE, generator=generator), torch.randn(D_SAE, generator=generator)


def dense(triples, n: int) -> torch.Tensor:
    out = torch.zeros(n, D_SAE)
    out[triples.token, triples.feature] = triples.value
    return out


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize(("rows", "block"), [(256, 4096), (7, 4096), (70, 500), (33, 19), (1, 256)])
@pytest.mark.parametrize("name", RULES)
def test_tiles_and_roads_do_not_matter(name: str, rows: int, block: int, numpy: bool) -> None:
    x, W, b = case()
    want = RULES[name].keep(x @ W + b)
    got = encode_tiles(x, W, b, RULES[name], rows=rows, block=block, numpy=numpy)
    torch.testing.assert_close(dense(got, len(x)), want, atol=1e-4, rtol=1e-4)
    assert len(got.value) == (want != 0).sum()
    assert ((got.token.long() * D_SAE + got.feature).diff() > 0).all()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 50),
    block=st.sampled_from([64, 700, 4096]),
    levels=st.integers(1, 5),
    numpy=st.booleans(),
)
def test_ties_never_give_too_many(seed: int, k: int, block: int, levels: int, numpy: bool) -> None:
    """With few distinct values, which of equals is kept is free; how many and how large is not."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randint(-levels, levels + 1, (1, D_SAE), generator=generator).float()
    x = torch.tensor([[1.0], [2.0], [0.0], [-1.0]])
    got = encode_tiles(x, W, torch.zeros(D_SAE), TopKRule(k), block=block, numpy=numpy)
    for row, pre in enumerate(x @ W):
        want = pre.topk(k).values.relu()
        mine = got.value[got.token == row].sort(descending=True).values
        assert torch.equal(mine, want[want > 0])


def test_no_tokens_give_no_triples() -> None:
    x, W, b = case(n=0)
    assert [len(column) for column in encode_tiles(x, W, b, TopKRule(3))] == [0, 0, 0]


def test_bfloat16_is_near_and_says_so_by_its_weights() -> None:
    x, W, b = case()
    exact = dense(encode_tiles(x, W, b, ThresholdRule()), len(x))
    rough = dense(encode_tiles(x, W.bfloat16(), b, ThresholdRule()), len(x))
    assert 0 < (exact - rough).abs().max() < 0.3


def test_results_survive_the_reuse_of_their_buffer() -> None:
    x, W, b = case()
    first = encode_tiles(x, W, b, ThresholdRule(), rows=16)
    kept = first.value.clone()
    encode_tiles(-x, W, b, ThresholdRule(), rows=16)
    assert torch.equal(first.value, kept)


def test_a_thread_keeps_one_buffer_a_width() -> None:
    like = torch.zeros(0)
    first = borrow_buffer("test", 8, 16, like)
    assert borrow_buffer("test", 4, 16, like).data_ptr() == first.data_ptr()
    assert borrow_buffer("test", 4, 17, like).data_ptr() != first.data_ptr()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", RULES)
def test_cuda_agrees_with_the_cpu(name: str) -> None:
    x, W, b = case()
    rule = RULES[name]
    if isinstance(rule, ThresholdRule) and rule.threshold is not None:
        rule = ThresholdRule(rule.threshold.cuda())
    got = encode_tiles(x.cuda(), W.cuda(), b.cuda(), rule)
    want = encode_tiles(x, W, b, RULES[name])
    torch.testing.assert_close(got.value.cpu(), want.value, atol=1e-3, rtol=1e-3)


def test_a_harvests_buffers_serve_live_encoding_too() -> None:
    """Buffers are kept per thread; one made in inference mode must not outlive it as such."""
    like = torch.zeros(1)
    with torch.inference_mode():
        borrow_buffer("only here", 7, 13, like)
    with torch.no_grad():
        live = torch.add(torch.ones(7, 13), 1, out=borrow_buffer("only here", 7, 13, like))
    assert bool((live == 2).all())
