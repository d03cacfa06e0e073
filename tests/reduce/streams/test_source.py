"""Sources larger than memory, and files that are gone on with."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lcm_graph.monoids import BinaryGRU, Max, Product, Sum
from lcm_graph.reduce import Accumulator, accumulate, segment_reduce
from tests.monoids.shipped import MONOIDS
from tests.references import Ordered, error

D = 4


class Killed(Exception):
    """What ends a run in these tests."""


class Dying:
    """An array that can be read so many times."""

    def __init__(self, x: np.ndarray, reads: int) -> None:
        self.x, self.reads, self.shape, self.dtype = x, reads, x.shape, x.dtype
        self.seen: list[int] = []

    def __getitem__(self, rows: slice) -> np.ndarray:
        if not self.reads:
            raise Killed
        self.reads -= 1
        self.seen += range(len(self.x))[rows]
        return self.x[rows]


def test_killed_and_gone_on_with(tmp_path: Path) -> None:
    """No element is lost, none counts twice, and the answer is that of all at once."""
    monoid = Ordered(D).double()
    x = np.random.default_rng(0).normal(size=(1000, D))
    index = np.random.default_rng(1).integers(0, 3, size=1000)
    path, file = tmp_path / "x.npy", tmp_path / "stream.safetensors"
    np.save(path, x)
    mapped = np.load(path, mmap_mode="r")
    for reads in (5, 0, 9):
        with pytest.raises(Killed):
            accumulate(
                Accumulator(monoid),
                Dying(mapped, reads),
                index,
                chunk_size=37,
                path=file,
                every=0,
            )
    last = Dying(mapped, 1000)
    stream = accumulate(Accumulator(monoid), last, index, chunk_size=37, path=file, every=0)
    assert last.seen == list(range(14 * 37, 1000))
    states = monoid.lift(torch.from_numpy(x))
    expected = monoid.lower(segment_reduce(monoid, states, torch.from_numpy(index)))
    assert error(stream.result(), expected) <= 1e-12
    done = accumulate(Accumulator(monoid), Dying(mapped, 0), index, path=file)
    assert torch.equal(done.result(), stream.result())


KILLED = """
import sys, time, numpy as np, torch
from lcm_graph.monoids import Sum
from lcm_graph.reduce import Accumulator, accumulate
class Slow:
    read = 0
    def __init__(self, x):
        self.x, self.shape, self.dtype = x, x.shape, x.dtype
    def __getitem__(self, rows):
        time.sleep(0.002)
        Slow.read += len(self.x[rows])
        return self.x[rows]
x = np.load(sys.argv[1], mmap_mode="r")
print("begun", flush=True)
stream = accumulate(Accumulator(Sum(1)), Slow(x), chunk_size=10, path=sys.argv[2], every=0)
print(int(stream.result()), Slow.read)
"""


def test_killed_by_the_system(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5000, dtype=np.float64)[:, None])
    command = [sys.executable, "-c", KILLED, str(tmp_path / "x.npy"), str(tmp_path / "stream")]
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "begun\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
        assert (tmp_path / "stream").exists()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    total, read = map(int, out.splitlines()[1].split())
    assert total == sum(range(5000)) and 0 < read < 5000


def chunks(upto: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    for number in range(9):
        if number == upto:
            raise Killed
        n = 3 * number
        yield torch.randn(n, D, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def test_chunks_that_are_iterated(tmp_path: Path) -> None:
    monoid = Product(Sum(D), Max(D))
    file = tmp_path / "stream"
    with pytest.raises(Killed):
        accumulate(Accumulator(monoid), chunks(6), path=file, every=0)
    found = accumulate(Accumulator(monoid), chunks(), path=file)
    whole = accumulate(Accumulator(monoid), chunks())
    assert found.num_elements == 108 and torch.equal(found.result(), whole.result())
    with pytest.raises(Killed):
        accumulate(Accumulator(monoid), chunks(6), path=tmp_path / "other", every=0)
    for others, message in [
        (torch.ones(50, D).split(7), "none ends after 45"),
        (torch.ones(14, D).split(7), "ends after 14"),
    ]:
        with pytest.raises(ValueError, match=message):
            accumulate(Accumulator(monoid), others, path=tmp_path / "other")


@pytest.mark.parametrize("name", MONOIDS)
def test_every_monoid_in_a_file(name: str, tmp_path: Path) -> None:
    monoid = MONOIDS[name]().eval()
    stream, again = Accumulator(monoid), Accumulator(monoid)
    stream.update(torch.randn(19, int(monoid.channels or 0)), torch.arange(19) % 4, dim_size=6)
    stream.save(tmp_path / "stream")
    again.load(tmp_path / "stream")
    assert torch.equal(again.result(), stream.result())
    assert again.counts.tolist() == stream.counts.tolist()


def test_half_precision_in_a_file(tmp_path: Path) -> None:
    stream = Accumulator(Sum(2))
    stream.update(torch.randn(5, 2).bfloat16())
    stream.save(tmp_path / "stream")
    again = Accumulator(Sum(2))
    again.load(tmp_path / "stream")
    assert again.result().dtype == torch.bfloat16
    assert torch.equal(again.result(), stream.result())


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    file, x = tmp_path / "stream", torch.ones(5, 2)
    accumulate(Accumulator(Sum(2)), x, path=file)
    with pytest.raises(ValueError, match=r"of Sum\(2\), not of Max\(2\)"):
        accumulate(Accumulator(Max(2)), x, path=file)
    with pytest.raises(ValueError, match="another source"):
        accumulate(Accumulator(Sum(2)), torch.ones(6, 2), path=file)
    busy = Accumulator(Sum(2))
    busy.update(x)
    with pytest.raises(ValueError, match="has 5 elements already"):
        accumulate(busy, x, path=file)
    with pytest.raises(ValueError, match=r"of Sum\(2\), not of BinaryGRU\(2\)"):
        Accumulator(BinaryGRU(2)).load(file)
    with pytest.raises(FileNotFoundError):
        Accumulator(Sum(2)).load(tmp_path / "none")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        Accumulator(Sum(2)).load(file)


def test_files_of_other_parameters(tmp_path: Path) -> None:
    file, x = tmp_path / "stream", torch.randn(40, 2)
    first, other = BinaryGRU(2), BinaryGRU(2)
    whole = accumulate(Accumulator(first), x, path=file)
    for call in (
        lambda: accumulate(Accumulator(other), x, path=file),
        lambda: Accumulator(other).load(file),
    ):
        with pytest.raises(ValueError, match="written with other parameters"):
            call()
    other.load_state_dict(first.state_dict())
    assert torch.equal(accumulate(Accumulator(other), x, path=file).result(), whole.result())


def test_files_of_another_index(tmp_path: Path) -> None:
    file, x, index = tmp_path / "stream", torch.ones(6, 2), torch.arange(6) % 3
    accumulate(Accumulator(Sum(2)), x, index, path=file)
    with pytest.raises(ValueError, match=r"with index torch\.int64, not"):
        accumulate(Accumulator(Sum(2)), x, path=file)


def test_the_number_of_sets_of_a_finished_source(tmp_path: Path) -> None:
    file, x, index = tmp_path / "stream", torch.ones(6, 2), torch.arange(6) % 3
    assert accumulate(Accumulator(Sum(2)), x, index, path=file).num_sets == 3
    again = accumulate(Accumulator(Sum(2)), x, index, path=file, dim_size=10)
    assert again.result()[:, 0].tolist() == [2, 2, 2, *[0] * 7]
    with pytest.raises(ValueError, match="'dim_size' must not be below"):
        accumulate(Accumulator(Sum(2)), x, index, path=file, dim_size=2)


def test_what_cannot_be_written_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    taken: list[int] = []

    def source() -> Iterator[Tensor]:
        taken.append(1)
        yield torch.ones(1, 2)

    for path, kind in [(tmp_path, IsADirectoryError), (tmp_path / "file" / "x", OSError)]:
        with pytest.raises(kind, match="folder"):
            accumulate(Accumulator(Sum(2)), source(), path=path)
    assert not taken and list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_forms_of_chunks() -> None:
    """Tensors, arrays, pairs, and the lists that a DataLoader of a TensorDataset gives."""
    x, index = torch.randn(9, 2), torch.arange(9) % 2
    for source in (
        [x],
        [x.numpy()],
        [(x, torch.zeros(9).long())],
        DataLoader(TensorDataset(x), batch_size=4),
    ):
        assert error(accumulate(Accumulator(Sum(2)), source).result()[0], x.sum(0)) <= 1e-6
    both = accumulate(Accumulator(Sum(2)), DataLoader(TensorDataset(x, index), batch_size=4))
    assert error(both.result()[1], x[1::2].sum(0)) <= 1e-6
    assert accumulate(Accumulator(Sum(2)), x, device="cpu").num_elements == 9


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "path": ({"source": "big.npy"}, TypeError, r"a chunk must be .* \(got str\)"),
    "nothing": ({"source": None}, TypeError, r"'source' must be .* \(got NoneType\)"),
    "dicts": ({"source": [{"x": 1}]}, TypeError, r"a chunk must be .* \(got dict\)"),
    "scalar": ({"source": torch.tensor(1.0)}, ValueError, "'source' must have elements"),
    "index": ({"index": [0, 1, 2]}, TypeError, "'index' must be"),
    "stream": ({"stream": Sum(2)}, TypeError, "'stream' must be an Acc"),
    "every": ({"every": "1"}, ValueError, "'every' must be"),
    "dim_size": ({"dim_size": "1"}, ValueError, "'dim_size' must"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_sources(case: str) -> None:
    change, error_type, message = WRONG[case]
    arguments: dict[str, Any] = {"stream": Accumulator(Sum(2)), "source": torch.ones(3, 2)}
    with pytest.raises(error_type, match=message):
        accumulate(**(arguments | change))


def test_arguments() -> None:
    x = torch.ones(5, 2)
    with pytest.raises(ValueError, match="'chunk_size' must be"):
        accumulate(Accumulator(Sum(2)), x, chunk_size=0)
    with pytest.raises(ValueError, match="as many entries as 'source', 5"):
        accumulate(Accumulator(Sum(2)), x, torch.zeros(4))
    with pytest.raises(ValueError, match="let each chunk be"):
        accumulate(Accumulator(Sum(2)), [x], torch.zeros(5))
    assert accumulate(Accumulator(Sum(2)), x[:0]).num_elements == 0


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    accumulate(Accumulator(Sum(2)), torch.ones(5, 2), chunk_size=2, progress=True)
    assert "5.00/5.00" in capsys.readouterr().err
    accumulate(Accumulator(Sum(2)), torch.ones(5, 2))
    assert not capsys.readouterr().err
