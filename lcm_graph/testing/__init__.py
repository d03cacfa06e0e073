"""Conformance suites to run on monoids and aggregations of your own (no test framework needed)."""

from lcm_graph.testing.aggregation import check_aggregation as check_aggregation
from lcm_graph.testing.check import Check as Check
from lcm_graph.testing.compare import relative_error as relative_error
from lcm_graph.testing.monoid import check_monoid as check_monoid
