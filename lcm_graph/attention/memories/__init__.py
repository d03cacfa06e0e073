"""What is kept of a stream of tokens: by scores that decay, by retrieval, or by any step."""

from lcm_graph.attention.memories.decay import StreamMemory as StreamMemory
from lcm_graph.attention.memories.decay import static_scores as static_scores
from lcm_graph.attention.memories.fold_left import fold_left as fold_left
from lcm_graph.attention.memories.retrieval import phrase_scores as phrase_scores
from lcm_graph.attention.memories.retrieval import retrieve as retrieve
from lcm_graph.attention.memories.retrieval import select_segments as select_segments
