"""The commands that measure weights: ``evaluate``, ``evaluate-pages``, ``bench``, ``calibrate`` and ``promote``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linewise.model.evaluation.metrics import Metric
from linewise.service.cli.common import (
    DeviceOption,
    WeightsOption,
    fail,
    open_reader,
    print_error,
    require_torch,
    require_training_extra,
    settings_from,
)

if TYPE_CHECKING:
    from linewise.model import Reader
    from linewise.model.evaluation.calibration import LabelledLine
    from linewise.model.evaluation.recognition import Prediction
    from linewise.model.synth.renderer import Sample

AgainstOption = Annotated[str, typer.Option(help="Engines to compare with, separated by commas: rapidocr,tesseract.")]


def evaluate(
    folders: Annotated[list[str], typer.Argument(help="Folders with a labels.tsv: image path, tab, text.")],
    metric: Annotated[Metric, typer.Option(help="Metric by which the listed errors are wrong.")] = Metric.EXACT,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures as JSON.")] = None,
    errors: Annotated[int, typer.Option(min=0, help="Number of errors to list, most confident first.")] = 0,
    sheet: Annotated[Path, typer.Option(help="HTML or PNG file for the listed errors.")] = Path("errors.html"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images of each folder.")] = None,
    reliability: Annotated[
        Path | None, typer.Option(help="PNG of the accuracy by confidence (reliability diagram).")
    ] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Read labelled images and print a Markdown table of the accuracy."""
    from linewise.model.evaluation.recognition import (
        confidence_outcomes,
        evaluate_all,
        most_confident_errors,
        results_json,
        results_markdown,
    )

    reader: Any = open_reader(settings_from(device=device, weights=weights))
    results, problems = evaluate_all(reader, folders, limit)
    if results:
        typer.echo(results_markdown(results))
    if json_file is not None:
        json_file.write_text(results_json(results), encoding="utf-8")
    if reliability is not None and results:
        require_training_extra()
        from linewise.model.evaluation.calibration import reliability_diagram

        reliability_diagram({r.name: confidence_outcomes(r.name, r.predictions) for r in results}, reliability)
    if errors:
        _write_error_sheet(most_confident_errors(results, metric, errors), sheet)
    for problem in problems:
        print_error(problem)
    if problems:
        raise typer.Exit(1)


def _write_error_sheet(errors: Sequence[Prediction], sheet: Path) -> None:
    """Write wrong texts beside their images, as PNG or HTML by the suffix of ``sheet``."""
    from linewise.model.evaluation.datasets import open_image
    from linewise.model.evaluation.recognition import error_sheet
    from linewise.model.recognition.preprocess import grey

    if sheet.suffix.lower() == ".png":
        require_training_extra()
        from linewise.model.synth.preview import contact_sheet
        from linewise.model.synth.renderer import Sample
        from linewise.model.synth.sources.fonts import find_faces

        samples = [Sample(grey(open_image(e.sample.path)), f"{e.text} / {e.sample.label}", "read") for e in errors]
        contact_sheet(samples, sheet, max(find_faces(), key=lambda face: len(face.characters)).path)
    else:
        sheet.write_text(error_sheet(errors), encoding="utf-8")
    print_error(f"the most confident errors are in {sheet}")


def evaluate_pages(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders with labels.json (text and quad of each line) or with one .txt per page."),
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for the figures of a single folder as JSON.")
    ] = None,
    against: AgainstOption = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pages of each folder.")] = None,
    detector: Annotated[
        Path | None, typer.Option(help="Checkpoint of the detector to use instead of the packaged one.")
    ] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Read labelled pages; print a Markdown table of detection and recognition accuracy."""
    from linewise.model import CheckpointError, load_page_reader
    from linewise.model.evaluation.baselines import open_page_baselines
    from linewise.model.evaluation.datasets import DatasetError, read_page_labels
    from linewise.model.evaluation.pages import evaluate_pages as run
    from linewise.model.evaluation.pages import pages_json, pages_markdown

    if json_file is not None and len(folders) != 1:
        fail(f"--json takes one folder, not {len(folders)}", 2)
    reader = _open_local_reader(device, weights)
    rows = []
    try:
        ours = load_page_reader(detector, reader)
        baselines = open_page_baselines([name for name in against.split(",") if name])
        for folder in folders:
            results = run({"linewise": ours, **baselines}, read_page_labels(folder)[:limit], print_error)
            rows += [
                (f"{folder.name}, {name}" if baselines else folder.name, result) for name, result in results.items()
            ]
            if json_file is not None:
                json_file.write_text(pages_json(results["linewise"]), encoding="utf-8")
    except (CheckpointError, DatasetError, ValueError) as error:
        fail(str(error), 1)
    typer.echo(pages_markdown(rows))


def bench(
    folder: Annotated[
        Path | None, typer.Argument(exists=True, file_okay=False, help="Labelled folder to compare engines on.")
    ] = None,
    against: AgainstOption = "",
    images: Annotated[int, typer.Option(min=1, help="Number of images of the folder to read.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, help="Number of times that each engine reads them.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 1,
    scale: Annotated[
        int | None, typer.Option(min=2, help="Compare this number of concurrent readers with one, on the folder.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="PNG of images per second by width.")] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Measure the speed by width and batch size, or on a folder in comparison with other engines."""
    require_torch()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported; holds in every thread of --scale
    import torch

    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):  # limits engines with thread pools of their own
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: threads * (scale or 1)])
    reader = _open_local_reader(device, weights)
    parameters = sum(parameter.numel() for parameter in reader.network.parameters()) / 1e6
    print_error(f"{parameters:.2f} M parameters, {reader.precision}, {threads} thread(s), {reader.device}")
    if folder is None:
        if scale is not None:
            fail("--scale needs a labelled folder to read", 2)
        results = _measure_widths(reader, picture)
    elif scale is not None:
        results = _measure_scaling(reader, folder, images, scale, rounds)
    else:
        results = _compare_engines(reader, folder, images, against, rounds)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")


def _measure_widths(reader: Reader, picture: Path | None) -> Sequence[Any]:
    """Print the speed at each width and batch size; returns the results."""
    import torch

    from linewise.model.evaluation.benchmark import batches_table, matrix_rate, measure_batches, plot_batches

    rate = matrix_rate(getattr(torch, reader.precision), reader.device)
    print_error(f"matrix multiplication on this machine: {rate:.0f} GMAC/s in {reader.precision}")
    results = measure_batches(reader, reader.config.widths)
    typer.echo(batches_table(results, rate))
    if picture is not None:
        plot_batches(results, picture)
    return results


def _measure_scaling(reader: Reader, folder: Path, images: int, threads: int, rounds: int) -> Sequence[Any]:
    """Print the throughput of ``threads`` readers compared with one; returns the result."""
    from linewise.model.evaluation.benchmark import measure_threads
    from linewise.model.evaluation.datasets import DatasetError, open_image, read_labels

    try:
        pictures = [open_image(sample.path) for sample in read_labels(folder)[:images]]
        result = measure_threads(reader, pictures, threads, rounds)
    except (DatasetError, ValueError) as error:
        fail(str(error), 1)
    typer.echo(
        f"{result.alone_per_s:.0f} images/s by one thread, {result.together_per_s:.0f} by {threads}:"
        f" {result.factor:.2f} times ({result.least:.2f} to {result.most:.2f})"
    )
    return [result]


def _compare_engines(reader: Reader, folder: Path, images: int, against: str, rounds: int) -> Sequence[Any]:
    """Print the speed and accuracy of this recogniser and other engines; returns the results."""
    from linewise.model.evaluation.benchmark import compare_engines, engines_table, open_engines
    from linewise.model.evaluation.datasets import DatasetError, read_labels

    try:
        samples = read_labels(folder)[:images]
        competitors = open_engines(reader, [name for name in against.split(",") if name])
        results = compare_engines(competitors, samples, folder.resolve().name, rounds, print_error)
    except (DatasetError, ValueError) as error:
        fail(str(error), 1)
    typer.echo(engines_table(results))
    return results


def _labelled_lines(rendered: Sequence[Sample], real: Path | None) -> list[LabelledLine]:
    """Rendered samples and as many of the held-out lines of real sets at most."""
    from linewise.model.evaluation.calibration import LabelledLine
    from linewise.model.train.data.mixture import real_line_weights
    from linewise.model.train.data.real_lines import RealLines

    lines = [LabelledLine(sample.image, sample.text) for sample in rendered]
    if real is None:
        return lines
    held_out = list(RealLines(real_line_weights(real), held_out=True).all())
    step = -(-len(held_out) // len(rendered))
    return [*lines, *(LabelledLine(line.pixels(), line.text, line.ignore_case) for line in held_out[::step])]


def calibrate(
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint to calibrate.")],
    out: Annotated[Path, typer.Argument(help="Checkpoint to write, with a new temperature and activation ranges.")],
    samples: Annotated[int, typer.Option(min=100, help="Number of rendered samples to measure on.")] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of the random samples.")] = 1,
    device: DeviceOption = None,
    base: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Base network; the checkpoint becomes its fast network."),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Parquet files; their held-out lines are used beside --base."),
    ] = None,
) -> None:
    """Fit the softmax temperature and measure activation ranges for 8-bit integers.

    Both on samples in typefaces that are held out of training. With --base, fit the confidence from which the
    network's answers count without the base network's.
    """
    require_training_extra()
    from linewise.model import CheckpointError, Reader
    from linewise.model.decoding.language_model import load as load_language
    from linewise.model.evaluation.calibration import (
        MIN_TEMPERATURE,
        activation_ranges,
        fit_temperature,
        save_calibrated,
        save_fast,
    )
    from linewise.model.network.checkpoint import load_weights
    from linewise.model.runtime.device import choose_device
    from linewise.model.synth.renderer import Renderer
    from linewise.model.synth.sources.fonts import find_faces

    try:
        # Without the fast network that may stand beside the weights.
        network, revision = load_weights(weights)
        reader = Reader(network, revision, choose_device(device), "auto", load_language())
        renderer = Renderer([face for face in find_faces() if face.held_out], seed)
        rendered = [renderer.sample(index) for index in range(samples)]
        fitted = fit_temperature(reader, rendered)
        temperature = max(MIN_TEMPERATURE, fitted)
        if base is None:
            ranges = activation_ranges(weights, rendered)
            save_calibrated(weights, out, temperature=temperature, ranges=ranges)
        else:
            save_calibrated(weights, out, temperature=temperature)
            accepted = save_fast(out, base, _labelled_lines(rendered, real))
            typer.echo(
                f"answers from a confidence of {accepted.confidence:.3f} count: {accepted.share:.1%} of them, accuracy "
                f"{accepted.accuracy:.2%} (the base network's: {accepted.base_accuracy:.2%})"
            )
    except (CheckpointError, RuntimeError, ValueError, OSError, KeyError) as error:
        fail(str(error), 1)
    typer.echo(f"temperature {reader.config.temperature:.3f} -> {temperature:.3f} (fitted: {fitted:.3f})")


def promote(
    new: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Candidate checkpoint.")],
    folders: Annotated[list[str], typer.Argument(help="Labelled folders to evaluate both checkpoints on.")],
    over: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Checkpoint to replace.")] = Path(
        "weights/linewise.safetensors"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images of each folder.")] = None,
    device: DeviceOption = None,
) -> None:
    """Replace a checkpoint if the candidate has the higher mean score over the folders."""
    from linewise.model import CheckpointError
    from linewise.model.evaluation.promote import compare, comparison_table, is_better, load_both, replace_checkpoint
    from linewise.model.evaluation.recognition import evaluate_all

    measured = []
    try:
        readers = load_both(over, new, device)
    except (CheckpointError, ValueError) as error:
        fail(str(error), 1)
    for reader in readers:
        results, problems = evaluate_all(reader, folders, limit)
        if problems:
            fail("; ".join(problems), 1)
        measured.append(results)
    comparisons = compare(*measured)
    typer.echo(comparison_table(comparisons))
    if not is_better(comparisons):
        fail(f"{new} is not better on average: {over} stays", 1)
    replace_checkpoint(over, new)
    print_error(f"{over} is now {new}")


def _open_local_reader(device: str | None, weights: Path | None) -> Reader:
    """Load the recogniser of this package, which gives access to its network."""
    from linewise.model import Reader

    reader = open_reader(settings_from(device=device, weights=weights))
    assert isinstance(reader, Reader)
    return reader
