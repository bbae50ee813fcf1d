"""Attention computes one thing, whichever way is fastest on the processor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mem3r_plugin.model import attention
from mem3r_plugin.model.attention import attend

AMX = {"avx512_bf16": True, "amx_bf16": True}
VECTORS = {"avx512_bf16": True, "amx_bf16": False}


@pytest.fixture
def processor(monkeypatch):
    """Lets a test say which units the processor has."""

    def has(units: dict[str, object]) -> None:
        monkeypatch.setattr(attention, "processor_capabilities", lambda: units)
        attention._products_are_faster.cache_clear()

    yield has
    attention._products_are_faster.cache_clear()


def projections(dtype: torch.dtype, tokens: int = 30, context: int = 17) -> list[Tensor]:
    """Query, key and value of 2 pictures, 3 heads of 8 channels, laid out as the layers give them."""
    generator = torch.Generator().manual_seed(0)
    lengths = (tokens, context, context)
    return [torch.randn(2, n, 3, 8, generator=generator).transpose(1, 2).to(dtype) for n in lengths]


def exact(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = query.double(), key.double(), value.double()
    return (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1) @ value


@pytest.mark.parametrize("units", [AMX, VECTORS, {}], ids=["AMX", "vectors", "older torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learning", [False, True])
def test_the_answer_does_not_depend_on_the_processor(processor, units, dtype, learning):
    processor(units)
    inputs = projections(dtype)
    copies = [each.clone() for each in inputs]
    with torch.inference_mode(not learning):
        result = attend(*(each.requires_grad_(learning) for each in inputs))
    assert result.dtype == dtype
    rounding = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(result.double(), exact(*copies), rtol=rounding, atol=rounding)
    assert all(torch.equal(each, copy) for each, copy in zip(inputs, copies, strict=True))


@pytest.mark.parametrize("learns", ["key", "value"])
def test_keys_and_values_may_learn_alone(processor, learns):
    processor(VECTORS)
    query, key, value = projections(torch.bfloat16)
    learning = {"key": key, "value": value}[learns].requires_grad_()
    attend(query, key, value).sum().backward()
    assert learning.grad is not None
    assert learning.grad.abs().max() > 0


@pytest.mark.parametrize("units", [AMX, VECTORS], ids=["AMX", "vectors"])
def test_autocast_asks_for_bfloat16(processor, units):
    processor(units)
    query, key, value = projections(torch.float32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        result = attend(query, key, value.bfloat16())
    torch.testing.assert_close(result.double(), exact(query, key, value), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("units", "dtype", "products"),
    [
        (VECTORS, torch.bfloat16, True),
        (VECTORS, torch.float32, False),
        (AMX, torch.bfloat16, False),
        ({}, torch.bfloat16, False),
    ],
)
def test_products_only_where_the_fused_kernel_has_no_units(
    processor, monkeypatch, units, dtype, products
):
    def by_products(query: Tensor, key: Tensor, value: Tensor) -> str:
        return "by products"

    processor(units)
    monkeypatch.setattr(attention, "_attend_by_products", by_products)
    with torch.inference_mode():
        assert (attend(*projections(dtype)) == "by products") is products
