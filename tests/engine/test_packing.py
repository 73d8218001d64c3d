"""Tensors of a nest in one piece of memory: what comes back is what went in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from kd_engine.packing import PLACE, pack, unpack

DTYPES = ("float32", "float64", "int64", "uint8", "bool", "float16")


def same(one: Any, other: Any) -> bool:
    """Values and kinds."""
    if isinstance(one, Tensor):
        whole = isinstance(other, Tensor) and one.dtype == other.dtype and one.shape == other.shape
        return whole and (one == other).all().item()
    if isinstance(one, dict):
        return type(one) is type(other) and [*one] == [*other] and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        alike = type(one) is type(other) and len(one) == len(other)
        return alike and all(map(same, one, other))
    return type(one) is type(other) and one == other


def tensors() -> st.SearchStrategy[Tensor]:
    shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    made = st.tuples(st.sampled_from(DTYPES), shapes, st.integers(0, 99))
    return made.map(
        lambda of: (
            (torch.arange(of[2], of[2] + torch.Size(of[1]).numel()) % 7)
            .reshape(of[1])
            .to(getattr(torch, of[0]))
        )
    )


NESTS = st.recursive(
    tensors() | st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(NESTS)
def test_what_is_packed_comes_back(nest: Any) -> None:
    packed, memory = pack(nest)
    assert same(nest, unpack(packed, memory))
    assert len({part.dtype for part in memory}) == len(memory)
    assert all(part.dim() == 1 for part in memory)


def test_strides_come_back_where_a_layout_has_no_gaps() -> None:
    last = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    nest = {"last": last, "plain": torch.rand(2, 3, 4, 5), "turned": torch.rand(3, 2).t()}
    back = unpack(*pack(nest))
    assert same(nest, back)
    assert back["last"].stride() == last.stride()
    assert back["plain"].is_contiguous()


@pytest.mark.parametrize("view", [torch.rand(9)[::2], torch.rand(1).expand(4), torch.rand(6, 6)[2:4, 1:3]])
def test_views_with_gaps_or_overlaps_come_back(view: Tensor) -> None:
    assert same([view, view], unpack(*pack([view, view])))


def test_it_is_memory_of_its_own_without_history() -> None:
    weight, more = torch.ones(3, requires_grad=True), {"knob": 1}
    packed, memory = pack({"weight": weight, "more": more})
    with torch.no_grad():
        weight.zero_()
    more["knob"] = 2
    back = unpack(packed, memory)
    assert back["weight"].tolist() == [1, 1, 1]
    assert not back["weight"].requires_grad
    assert back["more"] == {"knob": 1}


def test_a_state_dict_stays_one() -> None:
    state = nn.BatchNorm2d(3).state_dict()
    back = unpack(*pack(state))
    assert isinstance(back, OrderedDict)
    assert back._metadata == state._metadata
    assert same(dict(state), dict(back))


@pytest.mark.parametrize("place", [(0, 9, (2,), (1,)), (1, 0, (1,), (1,)), (0, 0, (2,)), 3])
def test_a_place_that_is_not_there_is_an_error(place: Any) -> None:
    with pytest.raises((RuntimeError, IndexError, TypeError, ValueError)):
        unpack({PLACE: place}, [torch.ones(3)])
