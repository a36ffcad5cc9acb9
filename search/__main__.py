"""The entrypoint on a cluster: python -m search VERB REQUEST, with the request as JSON.

`run`, `resume` and `confirm` drive a search, and end as the command on a laptop would. All other
verbs answer a question from outside: one line of JSON after ANSWER, for the client to show.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from typing import Any

from search.errors import BadInput, DiffsweepError
from search.history.folder import ID, Folder
from search.watch.answers import ANSWERS, home_of, say
from trainable.base.storage import StorageError

INTERRUPTED, NOTHING_COMPLETE = 130, 3
ENDS = {"failed": 1, "interrupted": INTERRUPTED, "cancelled": INTERRUPTED}  # exit codes


def main() -> None:
    verb, request = sys.argv[1], json.loads(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        if verb in ANSWERS:
            say(ANSWERS[verb], request)
        else:
            sys.exit(drive(verb, request))
    except DiffsweepError as error:
        for fault in error.faults:
            print(fault, flush=True)
        sys.exit(error.exit_code)
    except StorageError as error:
        print(f"storage: {error}", flush=True)
        sys.exit(BadInput.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def drive(verb: str, request: dict[str, Any]) -> int:
    """Drive a search as a job of the cluster; the exit code."""
    from rich.console import Console

    from search.execution.joined import Joined
    from search.execution.queue import Need
    from search.history.shipping import bring_own
    from search.run import confirm, resume, run
    from search.spec.spec import SearchSpec

    console = Console(file=sys.stdout, width=120)  # this one, wherever Tune is let talk to
    id, home = request["search"], home_of(request)
    if not ID.match(id):
        raise BadInput(f"{id}: no name of a search")
    home.prepare()
    folder = Folder(home.path / id) if verb == "run" else home.find(id)
    shipped = verb == "run" and request["spec"]["code"]  # later it is in the search's folder
    if shipped:
        shutil.copytree("code", folder.own / "code", dirs_exist_ok=True)
    bring_own(folder)
    own = folder.own if folder.own.is_dir() else None
    place = Joined(request["job"], console.print, None if shipped else own)
    if own is not None:
        os.chdir(own)  # from where the spec names the code
    place.wait_for_turn(Need(*request["needs"]))
    if verb == "run":
        spec = SearchSpec.model_validate(request["spec"])
        earlier = tuple(request["earlier"])
        _, book = run(spec, home, console, earlier, place, id)
    elif verb == "resume":
        more, retry = request["more"], request["retry"]
        _, book = resume(home, id, console, more, retry, place)
    else:
        _, book = confirm(home, id, request["given"], console, place)
    console.print(f"{book.id}: {book.state}")
    if book.state in ENDS:
        return ENDS[book.state]
    complete = any(trial.state == "complete" for trial in book.trials.values())
    return 0 if complete else NOTHING_COMPLETE


if __name__ == "__main__":
    main()
