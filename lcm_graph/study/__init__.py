"""Aggregations against set functions: every one trained alike on small sets and asked about large.

One command, ``lcm-graph study``; only the command line imports this.
"""

from lcm_graph.study.config import StudyConfig as StudyConfig
from lcm_graph.study.config import TaskSpec as TaskSpec
from lcm_graph.study.config_file import PRESETS as PRESETS
from lcm_graph.study.config_file import read_config as read_config
from lcm_graph.study.report import write_report as write_report
from lcm_graph.study.run import run_study as run_study
from lcm_graph.study.subjects import SUBJECTS as SUBJECTS
from lcm_graph.study.subjects import Subject as Subject
