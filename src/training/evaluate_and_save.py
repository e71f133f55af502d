"""Test on the verification sets while training, and decide which checkpoints to save."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Callable, Dict, Sequence

from insightface_mx.base.compat import Module, Params, Symbol
from insightface_mx.engine import module_state
from insightface_mx.files import atomic, manifest
from insightface_mx.formats import checkpoint
from insightface_mx.training.metrics import TrainingStatistics
from insightface_mx.training.options import BEST_AS_ONE, EVERY_TEST, NEVER, RunOptions
from insightface_mx.training.state import Metadata

# (step, parameters, moving averages) -> accuracy by verification set, in the order of --target
Test = Callable[[int, Params, Params], Dict[str, float]]


class EvaluateAndSave:
    """Tests and maybe saves every --verbose batches, as --ckpt says, and remembers the best score.

    The third test saves under number 0003. The best test is the one with the highest accuracy on the last target, among
    equal ones that with the highest mean over all targets; without a target it is the newest.

    Attributes:
        statistics: Statistics of the training batches, which every test reports.
    """

    def __init__(
        self,
        module: Module,
        symbol: Symbol,
        options: RunOptions,
        test: Test,
        statistics: TrainingStatistics,
        metadata: Metadata,
    ) -> None:
        """Start before the first test.

        Args:
            module: The bound Module in training.
            symbol: The graph to save.
            options: --prefix, --ckpt, --verbose and --keep.
            test: The test.
            statistics: Statistics to report with every test.
            metadata: Of the run, for the manifests PREFIX-NNNN.json.
        """
        self._module, self._symbol, self._options = module, symbol, options
        self.statistics = statistics
        self._test, self._metadata = test, metadata
        self._tests = 0
        self._best = (0.0, 0.0)  # accuracy on the last target, mean accuracy
        self._best_number: int | None = None
        self._saved: list[int] = []  # numbers of the checkpoints of this run
        self._saved_step: int | None = None

    def state(self) -> Metadata:
        """Return what a resumed run needs, in JSON's types."""
        return {
            "count": self._tests,
            "best": self._best,
            "best_number": self._best_number,
            "saved": self._saved,
            "saved_step": self._saved_step,
        }

    def restore(self, state: Metadata) -> None:
        """Continue from what `state` returned."""
        self._tests, self._best, self._best_number = state["count"], tuple(state["best"]), state["best_number"]
        self._saved, self._saved_step = list(state["saved"]), state["saved_step"]

    def after_batch(self, step: int, epoch: int) -> dict[str, float]:
        """Test and save if it is time; call after batch `step`, counted from 1.

        Returns:
            The metrics of the test by name, nothing if there was no test.
        """
        if step % self._options.verbose:
            return {}
        self._tests += 1
        params = module_state.current_params(self._module)
        accuracies = self._test(step, *params)
        number = 1 if self._options.ckpt == BEST_AS_ONE else self._tests
        is_best = self._is_best(list(accuracies.values()))
        if self._options.ckpt == EVERY_TEST or (is_best and self._options.ckpt != NEVER):
            self._save(step, epoch, number, params, accuracies)
            if is_best:
                self._best_number = number
        logging.info("[%d]Accuracy-Highest: %1.5f", step, self._best[0])
        scalars = {f"accuracy/{name}": accuracy for name, accuracy in accuracies.items()}
        return {**scalars, **self.statistics.report(step)}

    def after_training(self, step: int, epoch: int) -> None:
        """Save the last parameters under the next number, unless the last test just did or --ckpt 0 forbids it."""
        if self._options.ckpt == NEVER:
            logging.info("not saved after batch %d: --ckpt 0", step)
        elif self._saved_step != step:
            number = 2 if self._options.ckpt == BEST_AS_ONE else self._tests + 1
            self._save(step, epoch, number, module_state.current_params(self._module), {})

    def remove_old(self) -> None:
        """Remove the checkpoints of this run except the newest --keep (0: remove none) and the best."""
        old = self._saved[: -self._options.keep] if self._options.keep else []
        removed = [number for number in old if number != self._best_number]
        prefix = self._options.prefix
        for number in removed:
            for path in (checkpoint.manifest_path(prefix, number), checkpoint.params_path(prefix, number)):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
        self._saved = [number for number in self._saved if number not in removed]

    def _is_best(self, accuracies: Sequence[float]) -> bool:
        """Compare a test with the best one so far, and remember the better one."""
        if not accuracies:
            return True
        score = (accuracies[-1], sum(accuracies) / len(accuracies))
        is_best = score >= self._best
        self._best = max(score, self._best)
        return is_best

    def _save(
        self, step: int, epoch: int, number: int, params: tuple[Params, Params], accuracies: dict[str, float]
    ) -> None:
        prefix = self._options.prefix
        path = checkpoint.params_path(prefix, number)
        checkpoint.save(prefix, number, self._symbol, *params)
        metadata = {**self._metadata, "step": step, "epoch": epoch, "accuracies": accuracies}
        with atomic.report_write_errors(path):
            files = [checkpoint.symbol_path(prefix), path]
            manifest.write(checkpoint.manifest_path(prefix, number), files, metadata)
        self._saved = [other for other in self._saved if other != number] + [number]
        self._saved_step = step
        logging.info("saved %s after batch %d", path, step)
