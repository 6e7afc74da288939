"""The command line, also for ``python -m linewise``."""

import sys
from pathlib import PurePath


def main() -> None:
    """Run a command. ``linewise tesseract``, or a link of the name tesseract, starts without the other commands."""
    if PurePath(sys.argv[0]).stem == "tesseract":
        arguments = sys.argv[1:]
    elif sys.argv[1:2] == ["tesseract"]:
        arguments = sys.argv[2:]
    else:
        from linewise.service.cli.main import app

        app(prog_name="linewise")
        return
    from linewise.service.integrations.tesseract import main as tesseract

    sys.exit(tesseract(arguments))


if __name__ == "__main__":
    main()
