"""A trainer that does as files in its output folder say. It leaves `started-ATTEMPT` with its process id when it is up.

On SIGTERM it ends with 73, or with 9 when it was asked twice. `script.json` names what it does: {"exit": code} at once,
{"print": text} first, {"deaf": true} heeds no SIGTERM, {"child": true} starts a child of its own. A file named `finish`
ends it with 0.
"""

import json
import os
import signal
import subprocess
import sys
import time

from vishwamai.contract.environment import TrainerEnvironment

here = TrainerEnvironment.read(os.environ)
script = json.loads((here.output / "script.json").read_text()) if (here.output / "script.json").exists() else {}
asked: list[int] = []
signal.signal(signal.SIGTERM, signal.SIG_IGN if script.get("deaf") else lambda *_: asked.append(1))
if "print" in script:
    print(script["print"])
(here.output / "directory").write_text(os.getcwd())  # noqa: PTH109
(here.output / "environment.json").write_text(json.dumps(dict(os.environ)))
if "exit" in script:
    sys.exit(script["exit"])
if script.get("child"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (here.output / "child").write_text(str(child.pid))
with (here.output / "starts").open("a") as starts:
    starts.write(f"{here.attempt} {os.getpid()}\n")
(here.output / f".started-{here.attempt}").write_text(str(os.getpid()))
(here.output / f".started-{here.attempt}").rename(here.output / f"started-{here.attempt}")
while not asked:
    if (here.output / "finish").exists():
        sys.exit(0)
    time.sleep(0.01)
time.sleep(0.05)  # room for a second signal, which would be a fault
sys.exit(73 if len(asked) == 1 else 9)
