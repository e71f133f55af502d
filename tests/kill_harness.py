"""Kills a small training run again and again with SIGKILL, resumes it, and compares its end with an undisturbed run's.

    OMP_NUM_THREADS=1 python kill_harness.py --kills 200

Every kill is one of: before a call that writes, flushes, renames or removes a file ("boundary"), the same with the file
cut in half ("half"), or at a random moment ("moment"). First every place of the first two kinds ends a run once, then
runs are killed up to three times, at a place and at moments, before they may end. The runs are children, forked from
one process that has MXNet loaded and has not used it. Exit status 0: nothing was lost and every end was the same, bit
for bit.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
import time
from typing import NamedTuple, Optional

from harness import IDENTITIES, PHOTOS, SIZE, photo
from small_training import score, small_network

from insightface_mx import recipe, train_softmax
from insightface_mx.base.compat import mx
from insightface_mx.files import manifest
from insightface_mx.formats import checkpoint
from insightface_mx.formats.training_set import write_training_set
from insightface_mx.training import build, loop
from insightface_mx.training import state as training_state

STEPS = 9
OPTIONS = (
    f"--max-steps {STEPS} --save-every 4 --verbose 3 --ckpt 2 --keep 1 --per-batch-size 5 --image-size {SIZE},{SIZE} "
    "--emb-size 8 --seed 3 --color 1 --lr 0.05 --lr-steps 5 --warmup 3 --loss-type 1 --workers 1 --resume"
).split()
CALLS = ((os, "replace"), (os, "fsync"), (os, "remove"), (mx.nd, "save"))

LOADED = (recipe, build, loop)  # so that no child has to import them


class Plan(NamedTuple):
    """How a run ends: kind "boundary" or "half" at a call, "moment" after some seconds, or "end" by itself."""

    kind: str
    place: Optional[float]


END = Plan("end", None)


class Killer:
    """Counts a process's calls that change files, and ends the process as a Plan says; tells a pipe what was saved."""

    def __init__(self, plan, pipe):
        self.plan, self.pipe, self.calls, self.flushes = plan, pipe, 0, []
        for module, name in CALLS:
            setattr(module, name, self._counted(getattr(module, name)))
        self._tell_saves()

    def tell(self, **what):
        os.write(self.pipe, (json.dumps(what) + "\n").encode())

    def _counted(self, function):
        def call(target, *rest, **named):
            if function.__name__ == "remove" and not os.path.exists(target):
                return function(target)
            self.calls += 1
            flushes_file = function.__name__ == "fsync" and stat.S_ISREG(os.fstat(target).st_mode)
            if flushes_file:
                self.flushes.append(self.calls)
            if self.calls == self.plan.place:
                if self.plan.kind == "half":
                    os.truncate(os.readlink(f"/proc/self/fd/{target}"), os.fstat(target).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(target, *rest, **named)

        call.__name__ = function.__name__
        return call

    def _tell_saves(self):
        save, newest = training_state.save, training_state.newest

        def saving(prefix, metadata, *rest):
            number = save(prefix, metadata, *rest)
            self.tell(saved=metadata["step"])
            return number

        def finding(prefix, *rest):
            saved = newest(prefix, *rest)
            if saved:
                self.tell(start=saved.metadata["step"])
            return saved

        training_state.save, training_state.newest = saving, finding


def run(folder, data_dir, plan):
    """One child from its start to its death: (whether it ended by itself, what it told)."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        train(folder, data_dir, plan, writing)
    os.close(writing)
    if plan.kind == "moment":
        time.sleep(plan.place)
        os.kill(child, signal.SIGKILL)
    with open(reading) as pipe:
        told = [json.loads(line) for line in pipe if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and status:
        sys.exit(f"a run failed with status {status} after {plan}, see above; its files: {folder}")
    return not killed, told


def train(folder, data_dir, plan, pipe):
    """The child: trains, and never returns."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        killer = Killer(plan, pipe)
        argv = [*OPTIONS, "--data-dir", data_dir, "--prefix", os.path.join(folder, "m")]
        train_softmax.main(argv, network=small_network, test=score)
        killer.tell(calls=killer.calls, flushes=killer.flushes)
        status = 0
    finally:
        os._exit(status)


def told(messages, key):
    """What was told last under a name, 0 if nothing was."""
    return ([message[key] for message in messages if key in message] or [0])[-1]


def end_of(folder):
    """What a run ended with, bit for bit: its checkpoints, its training state and what it counted."""
    prefix = os.path.join(folder, "m")
    numbers = checkpoint.find_ids(prefix, r"-state-(\d+)\.json")
    metadata = manifest.read(f"{prefix}-state-{numbers[-1]}.json")
    files = [checkpoint.params_path(prefix, number) for number in checkpoint.epochs(prefix)]
    hashes = {os.path.basename(file): digest(file) for file in files}
    state = digest(f"{prefix}-state-{numbers[-1]}.params")
    metadata["tests"].pop("saved")  # may name files that are removed already: seen by what is there, below
    return {**{key: metadata[key] for key in ("step", "epoch", "batch", "updates", "tests")}, "state": state, **hashes}


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def places(messages):
    """Plans for every call of an undisturbed run, and for those that flush a file once more, with half the file."""
    boundaries = [Plan("boundary", place) for place in range(1, told(messages, "calls") + 1)]
    return boundaries + [Plan("half", place) for place in told(messages, "flushes")]


def disturbed(folder, data_dir, plans):
    """A run that is killed by each plan in turn and then may end: what was saved and not found again, kills by kind."""
    lost, kills, saved = 0, collections.Counter(), 0
    for plan in [*plans, END]:
        ended, messages = run(folder, data_dir, plan)
        lost += told(messages, "start") < saved and bool(messages)
        saved = max(saved, told(messages, "saved"))
        kills[plan.kind] += not ended
        if ended:
            break
    return lost, kills


def campaign(kills, seed, data_dir, folder):
    """Kill as often as that; returns the counts, and the files of runs that ended otherwise."""
    rng = random.Random(seed)
    undisturbed = os.path.join(folder, "undisturbed")
    began = time.time()
    _, messages = run(undisturbed, data_dir, END)
    seconds, expected = time.time() - began, end_of(undisturbed)
    turns, counts, differing, lost = places(messages), collections.Counter(), [], 0
    alone = list(turns)
    while alone or sum(counts.values()) < kills:
        moments = [Plan("moment", rng.uniform(0, seconds)) for _ in range(rng.randrange(1, 3))]
        plans = [alone.pop()] if alone else [rng.choice(turns), *moments]
        own = os.path.join(folder, "disturbed")
        lost_now, counted = disturbed(own, data_dir, plans)
        lost, counts = lost + lost_now, counts + counted
        leftovers = [name for name in os.listdir(own) if ".tmp" in name]
        if end_of(own) != expected or leftovers:
            differing.append((plans, leftovers))
        shutil.rmtree(own)
    return {"places": len(turns), "kills": sum(counts.values()), **counts, "lost": lost, "differing": differing}


@contextlib.contextmanager
def data_folder():
    """A folder with a training set, and room for runs."""
    with tempfile.TemporaryDirectory() as folder:
        photos = [[photo(person, i) for i in range(PHOTOS)] for person in range(IDENTITIES)]
        write_training_set(folder, photos, (SIZE, SIZE))
        yield folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="at least so many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    args = parser.parse_args()
    with data_folder() as folder:
        result = campaign(args.kills, args.seed, folder, folder)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.exit(bool(result["lost"] or result["differing"]))


if __name__ == "__main__":
    main()
