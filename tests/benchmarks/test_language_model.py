"""What the language model is given and asked, without the model."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.language_model import needle, passages_of


class Tokenizer:
    """A token a character."""

    def __call__(self, text: str, return_tensors: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=torch.tensor([[ord(letter) for letter in text]]))


def told(ids: torch.Tensor) -> str:
    return "".join(map(chr, ids[0].tolist()))


def test_passages_are_all_different(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}{n:04d}" for n in range(200)))
    passages = [told(ids) for ids in passages_of(Tokenizer(), tmp_path, 5, 50)]
    assert len(set(passages)) == 5 and {len(one) for one in passages} == {50}
    with pytest.raises(SystemExit, match=r"a.txt must go on for 700 tokens .* \(got 667\)"):
        passages_of(Tokenizer(), tmp_path, 1, 700)
    with pytest.raises(SystemExit, match=r"there is no \*.txt"):
        passages_of(Tokenizer(), tmp_path / "none", 1, 5)


@pytest.mark.parametrize("depth", [0.1, 0.5, 0.9])
def test_a_needle_lies_where_it_should(depth: float) -> None:
    filler = torch.full((1, 100), ord("."))
    ids, question, digits = needle(Tokenizer(), filler, depth, 12345)
    text = told(ids)
    assert text.index("\nThe pass key is 12345") == int(100 * depth)
    assert text.count(".") == 100 + 3  # those of its sentences
    assert told(question).endswith("The pass key is ") and told(digits) == "12345"
    assert math.prod(digits.shape) == 5
