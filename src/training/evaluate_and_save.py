"""Testing on the verification sets while training, and deciding what to save."""

import contextlib
import logging
import os

from insightface_mx.engine import module_state
from insightface_mx.formats import atomic, checkpoint, manifest

NEVER, BEST, EVERY_TEST, BEST_AS_ONE = range(4)  # --ckpt


class TestAndSave:
    """Tests and maybe saves every --verbose batches, as --ckpt says; keeps the best score.

    module: the bound Module in training. symbol: the graph to save. args: the command's options. test: function
    (step, arg_params, aux_params) -> accuracy by target, in the order of --target. figures: the TrainingStatistics to
    report. facts: a dict for the manifests PREFIX-NNNN.json.
    Saves are numbered by the tests so far: the third test saves under 0003. The best test is the one with the highest
    accuracy on the last target, among equals the one with the highest mean over all targets; the newest, where there
    is no target.
    """

    __test__ = False  # not one of pytest's

    def __init__(self, module, symbol, args, test, figures, facts):
        self.module, self.symbol, self.test, self.figures, self.facts = module, symbol, test, figures, facts
        self.prefix, self.policy, self.verbose = args.prefix, args.ckpt, args.verbose
        self.restore({"count": 0, "best": (0.0, 0.0), "best_number": None, "saved": [], "saved_step": None})

    def state(self):
        """What has to survive an interruption, in JSON's types."""
        return {
            "count": self.tests,
            "best": self.best,
            "best_number": self.best_number,
            "saved": self.saved,
            "saved_step": self.saved_step,
        }

    def restore(self, state):
        """Go on from what `state` returned."""
        self.tests, self.best, self.best_number = state["count"], tuple(state["best"]), state["best_number"]
        self.saved, self.saved_step = list(state["saved"]), state["saved_step"]

    def batch(self, step, epoch):
        """Call after batch `step`, counted from 1; returns the test's figures by name, {} where none was due."""
        if step % self.verbose:
            return {}
        self.tests += 1
        params = module_state.current_params(self.module)
        accuracies = self.test(step, *params)
        number = 1 if self.policy == BEST_AS_ONE else self.tests
        is_best = self._is_best(list(accuracies.values()))
        if self.policy == EVERY_TEST or is_best and self.policy != NEVER:
            self._save(step, epoch, number, params, accuracies)
            self.best_number = number if is_best else self.best_number
        logging.info("[%d]Accuracy-Highest: %1.5f", step, self.best[0])
        scalars = {f"accuracy/{name}": accuracy for name, accuracy in accuracies.items()}
        return {**scalars, **self.figures.report(step)}

    def finish(self, step, epoch):
        """Save the last state under the next number, unless the last test just did or --ckpt 0 forbids it."""
        if self.policy == NEVER:
            logging.info("not saved after batch %d: --ckpt 0", step)
        elif self.saved_step != step:
            number = 2 if self.policy == BEST_AS_ONE else self.tests + 1
            self._save(step, epoch, number, module_state.current_params(self.module), {})

    def prune(self, keep):
        """Remove all checkpoints that this run saved but the newest `keep` (0: keep all) and the best."""
        removed = [number for number in self.saved[:-keep] if number != self.best_number] if keep else []
        for number in removed:
            for path in (checkpoint.manifest_path(self.prefix, number), checkpoint.params_path(self.prefix, number)):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
        self.saved = [number for number in self.saved if number not in removed]

    def _is_best(self, accuracies):
        if not accuracies:
            return True
        score = (accuracies[-1], sum(accuracies) / len(accuracies))
        is_best = score >= self.best
        self.best = max(score, self.best)
        return is_best

    def _save(self, step, epoch, number, params, accuracies):
        path = checkpoint.params_path(self.prefix, number)
        checkpoint.save(self.prefix, number, self.symbol, *params)
        facts = {**self.facts, "step": step, "epoch": epoch, "accuracies": accuracies}
        with atomic.report_write_errors(path):
            files = [checkpoint.symbol_path(self.prefix), path]
            manifest.write(checkpoint.manifest_path(self.prefix, number), files, facts)
        self.saved = [other for other in self.saved if other != number] + [number]
        self.saved_step = step
        logging.info("saved %s after batch %d", path, step)
