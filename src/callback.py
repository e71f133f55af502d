"""Testing on the verification sets while training, and deciding what to save."""

import logging

from insightface_mx import checkpoint

NEVER, BEST, EVERY_TEST, BEST_AS_ONE = range(4)  # --ckpt


class TestAndSave:
    """Tests and maybe saves every --verbose batches, as --ckpt says; keeps the best score.

    module: the bound Module in training. symbol: the graph to save. args: the command's options. test: function
    (step, arg_params, aux_params) -> accuracy by target, in the order of --target.
    Saves are numbered by the tests so far: the third test saves under 0003. The best test is the one with the highest
    accuracy on the last target, among equals the one with the highest mean over all targets; the newest, where there
    is no target.
    """

    __test__ = False  # not one of pytest's

    def __init__(self, module, symbol, args, test):
        self.module, self.symbol, self.test = module, symbol, test
        self.prefix, self.policy, self.verbose = args.prefix, args.ckpt, args.verbose
        self.tests = 0
        self.best = (0.0, 0.0)
        self.saved_step = None

    def batch(self, step):
        """Call after batch `step`, counted from 1; returns the test's accuracies by name, {} where none was due."""
        if step % self.verbose:
            return {}
        self.tests += 1
        params = checkpoint.module_params(self.module)
        accuracies = self.test(step, *params)
        is_best = self._is_best(list(accuracies.values()))
        if self.policy == EVERY_TEST or is_best and self.policy != NEVER:
            self._save(step, 1 if self.policy == BEST_AS_ONE else self.tests, params)
        logging.info("[%d]Accuracy-Highest: %1.5f", step, self.best[0])
        return {f"accuracy/{name}": accuracy for name, accuracy in accuracies.items()}

    def finish(self, step):
        """Save the last state under the next number, unless the last test just did or --ckpt 0 forbids it."""
        if self.policy == NEVER:
            logging.info("not saved after batch %d: --ckpt 0", step)
        elif self.saved_step != step:
            number = 2 if self.policy == BEST_AS_ONE else self.tests + 1
            self._save(step, number, checkpoint.module_params(self.module))

    def _is_best(self, accuracies):
        if not accuracies:
            return True
        score = (accuracies[-1], sum(accuracies) / len(accuracies))
        is_best = score >= self.best
        self.best = max(score, self.best)
        return is_best

    def _save(self, step, number, params):
        checkpoint.save(self.prefix, number, self.symbol, *params)
        self.saved_step = step
        logging.info("saved %s after batch %d", checkpoint.params_path(self.prefix, number), step)
