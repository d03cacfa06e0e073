"""Sets whose elements come, change and go: the nodes of their trees are kept."""

from lcm_graph.reduce.dynamic.fold_tree import FoldTree as FoldTree
