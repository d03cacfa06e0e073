"""The rank-1 form: logits that are sums of one term for each key."""

from __future__ import annotations

from lcm_graph.attention.states import AttentionState
from lcm_graph.attention.tensor.inputs import Inputs
from lcm_graph.attention.tensor.nested import nested_attention


def factored_attention(inputs: Inputs) -> AttentionState:
    r"""Logits :math:`q_i k^1_j + q_i k^2_k`: their exponentials factor, and so does the answer.

    It is the product of ordinary attentions to each set of keys, and their ``lse`` add up.
    """
    states = [
        nested_attention(inputs._replace(keys=(k,), values=(v,), widths=(width,)), "trilinear")
        for k, v, width in zip(inputs.keys, inputs.values, inputs.widths, strict=True)
    ]
    out, lse = states[0]
    for state in states[1:]:
        out, lse = out * state.out, lse + state.lse
    return AttentionState(out, lse)
