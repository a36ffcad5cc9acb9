"""The command `diffsweep`: thin, with its imports inside the commands."""

from __future__ import annotations

import gc
import sys

import click

import cluster.apart  # noqa: F401  # before the others, which it looks after
from cluster.commands import results, searching, serving
from cluster.commands.shared import INTERRUPTED
from search.errors import BadInput, DiffsweepError
from trainable.base.storage import StorageError

COMMANDS = (
    serving.init,
    searching.check,
    searching.run,
    serving.submit,
    searching.resume,
    searching.confirm,
    searching.stop,
    searching.cancel,
    searching.kill,
    searching.add,
    searching.rm,
    results.replay,
    results.ls,
    results.status,
    results.trials,
    serving.logs,
    results.export,
    results.report,
    results.train,
    results.ui,
    serving.up,
    serving.down,
    results.schema,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="diffsweep")
def cli() -> None:
    """Find out which optimizer, and which settings, train your diffusion model best."""


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command; faults are one line each on stderr, without a traceback."""
    try:
        cli.main(prog_name="diffsweep", standalone_mode=False)
    except DiffsweepError as error:
        for fault in error.faults:
            click.echo(f"{'error: ' if not isinstance(error, BadInput) else ''}{fault}", err=True)
        sys.exit(error.exit_code)
    except StorageError as error:
        click.echo(f"storage: {error}", err=True)
        sys.exit(BadInput.exit_code)
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        click.echo(
            f"{where}: {error.format_message()}" if where else error.format_message(), err=True
        )
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # or Python walks once more, for seconds, through all that was imported


if __name__ == "__main__":
    main()
