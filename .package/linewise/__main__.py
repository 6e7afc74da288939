"""The command line, for ``python -m linewise``."""

from linewise.service.cli.main import app

if __name__ == "__main__":
    app(prog_name="linewise")
