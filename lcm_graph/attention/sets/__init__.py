"""Attention to the elements of sets, without padding: PyG aggregators and blocks."""

from lcm_graph.attention.sets.latents import PerceiverAggregation as PerceiverAggregation
from lcm_graph.attention.sets.latents import SlotAggregation as SlotAggregation
from lcm_graph.attention.sets.pma import PMAAggregation as PMAAggregation
from lcm_graph.attention.sets.seed_attention import SeedAttention as SeedAttention
from lcm_graph.attention.sets.set_attention import InducedSetAttention as InducedSetAttention
from lcm_graph.attention.sets.set_attention import SetAttention as SetAttention
from lcm_graph.attention.sets.set_transformer import (
    SetTransformerAggregation as SetTransformerAggregation,
)
from lcm_graph.attention.sets.slot_encoding import SlotEncoding as SlotEncoding
