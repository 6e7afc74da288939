"""Arguments of the tesseract command: options, configuration files and variables.

Manual: https://github.com/tesseract-ocr/tesseract/blob/main/doc/tesseract.1.asc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Tesseract's codes of the languages that the recogniser was trained on, and of the detection of orientation.
LANGUAGES = frozenset({
    "cat", "ces", "dan", "deu", "eng", "fin", "fra", "hun", "isl", "ita", "lav", "lit", "nld", "nor", "osd", "pol",
    "por", "ron", "slk", "slv", "spa", "swe", "tur",
})  # fmt: skip
SCRIPTS = frozenset({"Latin", "script/Latin"})
DEFAULT_LANGUAGE = "eng"

# Page segmentation modes, by what they mean here.
ORIENTATION_MODES, LINE_MODES, PAGE_MODES = {0}, {7, 8, 10, 13}, {1, 3, 4, 6, 11, 12}
WORD_MODES = {8, 10}  # without spaces
DEFAULT_MODE = 3
UNSUPPORTED_MODES = {2: "segmentation without recognition", 5: "vertical text", 9: "a word in a circle"}

FORMATS = ("txt", "hocr", "alto", "tsv", "pdf", "box")
CONFIG_FORMATS = {"txt": "txt", "hocr": "hocr", "alto": "alto", "tsv": "tsv", "pdf": "pdf", "makebox": "box"}
CONFIG_VARIABLES = {"digits": [("tessedit_char_whitelist", "0123456789-.")]}
IGNORED_CONFIGS = {"api_config", "batch", "batch.nochop", "logfile", "nobatch", "quiet"}
UNSUPPORTED_FORMATS = {"lstm.train", "lstmbox", "page", "unlv", "wordstrbox"}

# Variables that have a meaning here, with their defaults.
VARIABLES = {
    "debug_file": "",
    "load_system_dawg": "1",
    "page_separator": "\f",
    "preserve_interword_spaces": "0",
    "tessedit_char_blacklist": "",
    "tessedit_char_whitelist": "",
    "tessedit_create_alto": "0",
    "tessedit_create_boxfile": "0",
    "tessedit_create_hocr": "0",
    "tessedit_create_pdf": "0",
    "tessedit_create_tsv": "0",
    "tessedit_create_txt": "0",
    "tessedit_page_number": "-1",
    "tessedit_pageseg_mode": str(DEFAULT_MODE),
    "textonly_pdf": "0",
    "user_defined_dpi": "0",
    "user_words_file": "",
}
VARIABLE_OF_FORMAT = {name: f"tessedit_create_{'boxfile' if name == 'box' else name}" for name in FORMATS}
UNSUPPORTED_OUTPUTS = {f"tessedit_create_{name}" for name in ("lstmbox", "page_xml", "unlv", "wordstrbox")}
TRUE_VALUES, FALSE_VALUES = {"1", "T", "t", "Y", "y", "true"}, {"0", "F", "f", "N", "n", "false", ""}

LOG_LEVELS = ("ALL", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF")


class TesseractError(Exception):
    """A command that ends with the exit code 1; the message goes to standard error."""


@dataclass
class Command:
    """Parsed arguments.

    ``variables`` are those that were set and have a meaning here; ``warnings`` are lines for standard error.
    ``action`` is an option that prints something and ends the command, such as ``--version``.
    """

    image: str | None = None
    output: str | None = None
    languages: list[str] = field(default_factory=lambda: [DEFAULT_LANGUAGE])
    variables: dict[str, str] = field(default_factory=dict)
    configs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    quiet: bool = False
    action: str | None = None

    def value(self, name: str) -> str:
        """Return the value of a variable, or its default."""
        return self.variables.get(name, VARIABLES[name])

    def is_true(self, name: str) -> bool:
        """Return whether a variable is switched on."""
        return self.value(name) in TRUE_VALUES

    @property
    def mode(self) -> int:
        """Page segmentation mode."""
        return int(self.value("tessedit_pageseg_mode"))

    @property
    def formats(self) -> list[str]:
        """Output formats; text if none was asked for."""
        return [name for name, variable in VARIABLE_OF_FORMAT.items() if self.is_true(variable)] or ["txt"]


def parse_arguments(arguments: Sequence[str]) -> Command:
    """Parse the arguments of the command. Raises ``TesseractError``."""
    command, rest = Command(), list(arguments)
    assignments: list[str] = []
    while rest:
        argument = rest.pop(0)
        if argument == "-c" and rest:
            assignments.append(rest.pop(0))
        elif argument in OPTIONS and rest:
            OPTIONS[argument](command, rest.pop(0))
        else:
            _take(command, argument)
    for config in command.configs:
        _read_config(command, config)
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise TesseractError("Missing = in configvar assignment")
        set_variable(command, name, value)
    return command


def _take(command: Command, argument: str) -> None:
    """Take an option without a value, or the next of image, output and configuration files."""
    if argument in ACTIONS:
        command.action = ACTIONS[argument]
    elif argument.startswith("-") and argument != "-":
        raise TesseractError(f"Error, unknown command line argument '{argument}'")
    elif command.image is None:
        command.image = argument
    elif command.output is None:
        command.output = argument
    else:
        command.configs.append(argument)


def set_variable(command: Command, name: str, value: str) -> None:
    """Set a variable, or warn about one without a meaning as Tesseract does about one that it does not know.

    Raises ``TesseractError`` for an output that cannot be written, and for a value that is not valid.
    """
    if name in UNSUPPORTED_OUTPUTS and value in TRUE_VALUES:
        raise TesseractError(f"Could not set option: {name}={value}\nThe output formats are {', '.join(FORMATS)}.")
    if name not in VARIABLES:
        command.warnings.append(f"Could not set option: {name}={value} (it has no meaning for Linewise)")
        return
    if VARIABLES[name] in ("0", "1") and name != "user_defined_dpi" and value not in TRUE_VALUES | FALSE_VALUES:
        raise TesseractError(f"Could not set option: {name}={value}\nThe value must be 0 or 1.")
    if name == "tessedit_pageseg_mode":
        _check_mode(value)
    elif name in ("tessedit_page_number", "user_defined_dpi"):
        try:
            int(value)
        except ValueError:
            raise TesseractError(f"Could not set option: {name}={value}\nThe value must be a whole number.") from None
    command.variables[name] = value


def _check_mode(value: str) -> None:
    if not value.isdecimal() or int(value) > 13:
        raise TesseractError("Invalid PSM value, please enter a number between 0-13")
    if int(value) in UNSUPPORTED_MODES:
        raise TesseractError(f"PSM {value} is not supported: Linewise has no {UNSUPPORTED_MODES[int(value)]}")


def _set_languages(command: Command, value: str) -> None:
    """Keep the known languages; warn about the others, and fail without any."""
    names = value.split("+")
    for name in names:
        if name not in LANGUAGES | SCRIPTS:
            command.warnings.append(f"Failed loading language '{name}'")
    command.languages = [name for name in names if name in LANGUAGES | SCRIPTS]
    if not command.languages:
        raise TesseractError(
            "\n".join([*command.warnings, "Tesseract couldn't load any languages!", "Could not initialize tesseract."])
            + f"\nLinewise reads {' '.join(sorted(LANGUAGES))}."
        )


def _check_engine_mode(command: Command, value: str) -> None:
    """Check the engine mode; there is one engine."""
    if value not in ("0", "1", "2", "3"):
        raise TesseractError("Invalid OEM value, please enter a number between 0-3")


def _set_log_level(command: Command, value: str) -> None:
    if value not in LOG_LEVELS:
        raise TesseractError(f"Error, unsupported --loglevel {value}")
    command.quiet = LOG_LEVELS.index(value) > LOG_LEVELS.index("WARN")


def _set(name: str) -> Callable[[Command, str], None]:
    return lambda command, value: set_variable(command, name, value)


def _ignore(command: Command, value: str) -> None:
    """Accept an option that has no effect: there are no files of language data."""


def _warn_about_patterns(command: Command, value: str) -> None:
    command.warnings.append(f"Could not use --user-patterns {value} (patterns have no meaning for Linewise)")


OPTIONS: dict[str, Callable[[Command, str], None]] = {
    "-l": _set_languages,
    "--dpi": _set("user_defined_dpi"),
    "--loglevel": _set_log_level,
    "--oem": _check_engine_mode,
    "--psm": _set("tessedit_pageseg_mode"),
    "-psm": _set("tessedit_pageseg_mode"),
    "--tessdata-dir": _ignore,
    "--user-patterns": _warn_about_patterns,
    "--user-words": _set("user_words_file"),
}
ACTIONS = {
    "--help": "help", "-h": "help", "--help-extra": "help", "--help-psm": "help-psm", "--help-oem": "help-oem",
    "--version": "version", "-v": "version", "--list-langs": "list-langs", "--print-parameters": "print-parameters",
}  # fmt: skip


def _read_config(command: Command, name: str) -> None:
    """Apply a configuration file: a known name, or the path of a file with a variable and its value in a line."""
    if name in UNSUPPORTED_FORMATS:
        raise TesseractError(f"The output {name} is not supported. The output formats are {', '.join(CONFIG_FORMATS)}.")
    if name in IGNORED_CONFIGS:
        return
    if name in CONFIG_FORMATS:
        set_variable(command, VARIABLE_OF_FORMAT[CONFIG_FORMATS[name]], "1")
        return
    assignments = CONFIG_VARIABLES.get(name)
    if assignments is None:
        try:
            lines = Path(name).read_text("utf-8").splitlines()
        except (OSError, ValueError):
            command.warnings.append(f"read_params_file: Can't open {name}")
            return
        parts = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
        assignments = [(part[0], part[1].strip() if len(part) > 1 else "") for part in parts]
    for variable, value in assignments:
        set_variable(command, variable, value)
