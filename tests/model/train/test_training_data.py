"""Shards, real lines, their augmentation, and the mixture."""

import io
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from linewise.model.network.config import ModelConfig
from linewise.model.synth.renderer import Renderer
from linewise.model.synth.sources.fonts import find_faces
from linewise.model.train.data.drawing import draw_shards
from linewise.model.train.data.line_augmentation import augmented, degraded, ground, ground_runs, spliced, with_margins
from linewise.model.train.data.mixture import Mixture, real_line_weights
from linewise.model.train.data.real_lines import RealLines, read_parquet
from linewise.model.train.data.sample_loader import SampleLoader, ShardSource
from linewise.model.train.data.samples import TrainingSample
from linewise.model.train.data.shards import ShardFolder, read_shard, shard_files, write_shard


def _samples(count: int, seed: int = 0) -> list[TrainingSample]:
    noise = np.random.default_rng(seed)
    samples = []
    for index in range(count):
        image = noise.integers(0, 256, (32, 32 + 16 * (index % 3), 2), np.uint8)
        if index % 2:
            image[..., 1] = 0
        samples.append(TrainingSample(image, f"text {seed} {index} é", "sign", ignore_case=index == 0))
    return samples


def _line(width: int = 120) -> NDArray[np.uint8]:
    """Grey paper with two dark words and a gap between them."""
    image = np.full((30, width), 200, np.uint8)
    image[8:22, 6 : width // 3] = 30
    image[8:22, width // 2 : width - 6] = 30
    return image


def _parquet(folder: Path, name: str, pages: int = 60, kind: str = "receipt") -> Path:
    buffer = io.BytesIO()
    Image.fromarray(_line()).save(buffer, "PNG")
    rows = [
        {"id": f"{name}/{page:03}/{line:03}", "image": buffer.getvalue(), "text": f"TOTAL {page}.{line}", "kind": kind}
        for page in range(pages)
        for line in range(3)
    ]
    rows.append({"id": f"{name}/x/0", "image": buffer.getvalue(), "text": "漢字", "kind": kind})
    path = folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_a_shard_holds_what_was_written(tmp_path: Path) -> None:
    samples = _samples(7)
    write_shard(tmp_path / "shard-000000.npz", samples)
    read = read_shard(tmp_path / "shard-000000.npz")
    for written, sample in zip(samples, read, strict=True):
        assert np.array_equal(written.image, sample.image)
        assert (written.text, written.kind, written.ignore_case) == (sample.text, sample.kind, sample.ignore_case)
        assert sample.uses == 0 and sample.loss == float("inf")
    assert list(tmp_path.iterdir()) == [tmp_path / "shard-000000.npz"]


def test_a_damaged_shard_is_named_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "shard-000000.npz").write_bytes(b"PK\x03\x04 cut")
    write_shard(tmp_path / "shard-000001.npz", _samples(3))
    with pytest.raises(ValueError, match="shard-000000"):
        read_shard(tmp_path / "shard-000000.npz")
    assert len(ShardFolder(tmp_path).next()) == 3


def test_unread_shards_come_first_and_the_reads_are_remembered(tmp_path: Path) -> None:
    for number in range(3):
        write_shard(tmp_path / f"shard-{number:06}.npz", _samples(2, seed=number))
    folder = ShardFolder(tmp_path)
    first, second = ({sample.text.split()[1] for sample in folder.next()} for _ in range(2))
    assert (first, second, folder.unread()) == ({"0"}, {"1"}, 1)
    resumed = ShardFolder(tmp_path, reads=folder.reads)
    assert {sample.text.split()[1] for sample in resumed.next()} == {"2"}
    write_shard(tmp_path / "shard-000003.npz", _samples(2, seed=3))
    assert {sample.text.split()[1] for sample in resumed.next()} == {"3"}
    assert {sample.text.split()[1] for sample in resumed.next()} == {"0"}  # all read: the oldest again


def test_a_folder_without_shards_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="linewise draw"):
        ShardFolder(tmp_path).next()
    loader = SampleLoader(ShardSource(ShardFolder(tmp_path)))
    with pytest.raises(RuntimeError, match="no readable shard"):
        loader.batch(2048, 8)
    loader.close()


def test_batches_come_from_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "shard-000000.npz", _samples(40))
    loader = SampleLoader(ShardSource(ShardFolder(tmp_path)), replay=1, pool=60)
    try:
        for _ in range(12):  # more than one reading of the shard
            batch = loader.batch(256, 8)
            assert len({sample.image.shape for sample in batch}) == 1
            assert 0 < len(batch) * batch[0].image.shape[1] <= 256
            loader.give_back(batch)
        assert loader.drawn >= 80
    finally:
        loader.close()


def test_drawing_goes_on_after_the_last_shard_and_drops_old_ones(tmp_path: Path) -> None:
    class Numbered(Mixture):
        def __init__(self) -> None:
            self.numbers: list[int] = []

        def sample(self, index: int) -> TrainingSample | None:
            self.numbers.append(index)
            return _samples(1)[0] if index % 2 else None

    mixture = Numbered()
    draw_shards(mixture, tmp_path, lambda: False, shards=2)
    draw_shards(mixture, tmp_path, lambda: False, shards=1, keep=2)
    assert list(shard_files(tmp_path)) == [1, 2]
    assert mixture.numbers == list(range(3 * 1024))
    assert len(read_shard(tmp_path / "shard-000002.npz")) == 512
    draw_shards(mixture, tmp_path, lambda: True)
    assert list(shard_files(tmp_path)) == [1, 2]


def test_whole_pages_are_held_out_and_unwritable_texts_left_out(tmp_path: Path) -> None:
    path = _parquet(tmp_path, "receipts_test")
    lines = read_parquet(path)
    assert len(lines) == 180 and all(line.ignore_case for line in lines)
    trained, held_out = RealLines({path: 1.0}), RealLines({path: 1.0}, held_out=True)
    pages, held_pages = ({line.page for line in part.all()} for part in (trained, held_out))
    assert not pages & held_pages and len(pages | held_pages) == 60
    assert 0 < len(held_pages) < 12
    line = trained.draw(Random(0))
    mate = trained.page_mate(Random(0), line)
    assert mate.page == line.page and mate is not line
    assert line.pixels().shape == (30, 120)


def test_weights_follow_the_kinds_of_sets(tmp_path: Path) -> None:
    for name in ("receipts_a", "typed_b", "print_c", "print_d", "hw_e", "fraktur_f"):
        _parquet(tmp_path, name, kind="print")
    weights = {path.stem: weight for path, weight in real_line_weights(tmp_path).items()}
    assert weights == pytest.approx({"receipts_a": 16.0, "typed_b": 8.0, "print_c": 3.0, "print_d": 3.0})


def test_the_ground_of_a_line_has_no_ink() -> None:
    image = _line()
    runs = ground_runs(image)
    assert runs and all((image[:, a:b] == 200).all() for a, b in runs)
    for seed in range(20):
        paper = ground(Random(seed), image, 30, 77)
        assert paper.shape == (30, 77)
        assert abs(float(paper.mean()) - 200) < 12 and paper.min() > 120
    assert ground(Random(0), np.full((20, 20), 90, np.uint8), 33, 5).shape == (33, 5)
    assert ground(Random(0), image, 30, 0).shape == (30, 0)


def test_margins_and_splices_keep_every_column_of_the_lines() -> None:
    image = _line()
    wide = with_margins(Random(1), image, 40, 25, 6, 3)
    assert wide.shape == (39, 185)
    assert np.array_equal(wide[6:36, 40:160], image)
    pair = spliced(Random(1), image, _line(90), 4.0)
    assert pair.shape == (30, 120 + 120 + 90)
    assert np.array_equal(pair[:, :120], image) and np.array_equal(pair[:, 240:], _line(90))


def test_augmented_lines_stay_legible_pictures() -> None:
    noise = np.random.default_rng(0)
    shapes = set()
    for seed in range(60):
        image = augmented(Random(seed), noise, _line())
        assert image.dtype == np.uint8 and image.ndim == 2 and 12 <= image.shape[0] <= 48
        assert image.std() > 4
        shapes.add(image.shape)
        colour = np.repeat(_line()[..., None], 3, axis=2)
        assert degraded(Random(seed), colour).shape[2] == 3
    assert len(shapes) > 20


def test_a_mixture_is_the_same_whenever_it_is_drawn_again(tmp_path: Path) -> None:
    try:
        faces = [face for face in find_faces() if not face.held_out][:20]
    except RuntimeError as error:
        pytest.skip(str(error))
    path = _parquet(tmp_path, "receipts_test")
    first, second = (Mixture(ModelConfig(), Renderer(faces, seed=4), RealLines({path: 1.0}), 0.5) for _ in range(2))
    samples = [first.sample(index) for index in range(24)]
    for index in reversed(range(24)):
        again, sample = second.sample(index), samples[index]
        assert (again is None) == (sample is None)
        if again is not None and sample is not None:
            assert again.text == sample.text and np.array_equal(again.image, sample.image)
    kinds = {sample.kind.removesuffix("_spliced") for sample in samples if sample}
    assert "receipts_test" in kinds and kinds & {"sign", "receipt", "book", "typescript"}
    drawn = [sample for sample in samples if sample and sample.kind == "sign"]
    assert drawn and not any(sample.ignore_case for sample in drawn)
