"""Chains over the weights of a network: epochs of Langevin steps, what is drawn of them, and what comes of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.model import Model
from modelmill.runtime.features import digest
from modelmill.store.disk import write_file
from modelmill.train.average import tensors
from modelmill.train.chains import consensus, diagnosis
from modelmill.train.chains.chain import Chain
from modelmill.train.chains.draws import Draws
from modelmill.train.chains.langevin import Stage, calmer, stage, steadier
from modelmill.train.chains.poll import Poll, meant
from modelmill.train.chains.posterior import Posterior, restarted
from modelmill.train.chains.record import Record
from modelmill.train.chains.walk import Walked, walk, walk_exactly
from modelmill.train.plan import Plan
from modelmill.train.recipe import Recipe
from modelmill.train.resume import resumed
from modelmill.train.rows import fold, head, rows, some, standardized, unfold, unit
from modelmill.train.training import SEEN, SMALL, Training
from modelmill.trial import Progress

CHAIN_SHARE = 0.7
"""The part of the seconds that chains take where a network is distilled after them."""
LEAST_S = 0.5
"""What distillation gets to run in, however late it is."""
TAUGHT_RATE = 0.01
"""The largest step size with which a network learns the average."""
LATER = frozenset({"store", "chunk", "members", "distill"})
"""Settings that do not change the chains: with others, the stored ones serve again."""


class Sampling:
    """Chains with their state in the open; all that is random depends on the seed, the chain and the epoch's number."""

    def __init__(
        self, model: Model, data: Splits, task: Task, settings: Draws, seed: int, folder: Path | None = None
    ) -> None:
        self.model, self.data, self.task, self.settings, self.seed = model, data, task, settings, seed
        self.classes = bool(model.signature.classes)
        train = rows(model, data.train, task)
        self.unit = unit(train, self.classes or head(model.body.value) is None)
        self.train = standardized(train, self.unit)
        self.warm = any(line.startswith("train.") for line in model.history)
        self.walkers = [self._walker(number) for number in range(settings.chains)]
        self.valid = standardized(rows(model, data.valid, task), self.unit) if data.valid.rows else None
        self.poll = self._poll()
        """What all draws so far say of the validation rows."""
        batch = min(settings.batch, max(SMALL, len(self.train) // 8))
        self.steps = 1 if settings.metropolis else math.ceil(len(self.train) / batch)
        """Steps of one epoch."""
        self.rate = settings.learning_rate
        """The largest step size, as burn-in has adapted it so far."""
        self.plan = Plan(settings.epochs, settings.seconds * (CHAIN_SHARE if settings.distill else 1.0))
        """Counts epochs, not steps."""
        self.rows = 0
        """Training rows that were learned from so far, each counted as often as it was."""
        self.noisy = 0
        """Epochs since burn-in that ended with noise."""
        self.record = Record(self._chain(folder))

    def run(self) -> Iterator[Progress]:
        """One Progress an epoch, which all chains walk; a last one that holds the result."""
        self._resume()
        while not self.plan.over:
            values = self._epoch()
            yield Progress(self.plan.done, self.plan.total, values)
        if not self.record.draws:
            self._draw()
        if self.record.pending:
            self._flush()
        yield from self._finish()

    def _walker(self, number: int) -> Posterior:
        """A chain at its start: the first one's weights as given, the others' drawn anew where none were trained."""
        body: torch.nn.Module = self.model.body.value
        start = body if self.warm or not number else restarted(body, self.seed * 1009 + number)
        noise = None if self.classes else self.settings.noise
        walker = Posterior(start, self.train, self.task, self.settings.prior, noise)
        if self.warm:
            unfold(walker.module, self.unit)
        return walker

    def _poll(self) -> Poll:
        return Poll(self.model, self.task, self.valid, self.unit)

    def _chain(self, folder: Path | None) -> Chain:
        """Where chunks go. Their key tells all that the chains depend on."""
        part = self.model.part
        weights = hashlib.sha256(self.walkers[0].weights.numpy().tobytes()).hexdigest()
        body = (repr(part.body.value), part.body.arch, weights, digest(part.prepare))
        data = (self.data.train.digest, self.data.valid.digest)
        asked = {"method": "mcmc", **asdict(self.settings)}
        table = {name: value for name, value in asked.items() if name not in LATER}
        told = (table, self.seed, *body, *data, self.task.as_table(), self.model.signature.classes)
        key = hashlib.sha256(msgspec.json.encode(told)).hexdigest()
        if folder is None and self.settings.store:
            folder = Path(self.settings.store).expanduser() / key[:16]
        return Chain(folder, key)

    def _stage(self, k: int) -> Stage:
        """The stage of the k-th step of the present epoch."""
        if self.settings.metropolis:
            return Stage(1.0, True)
        done = (self.plan.done + k / self.steps) / self.plan.total
        return stage(done, self.settings.burn_in, self.settings.cycles, self.settings.explore)

    def _epoch(self) -> dict[str, float]:
        """Walk all chains through one epoch; adapt in burn-in, and draw where a later one ended with noise."""
        burns = self.plan.done < self.settings.burn_in * self.plan.total
        stages = [self._stage(k) for k in range(self.steps)]
        size = self.rate * stages[-1].factor
        walked = [self._walk(walker, number, stages) for number, walker in enumerate(self.walkers)]
        self._trace(walked, size)
        if burns:
            self._adapt(walked)
        elif stages[-1].noisy:
            self.noisy += 1
            if self.noisy % self.settings.thin == 0:
                self._draw()
        self.plan.step()
        self.plan.fit()
        if self.plan.done % self.settings.chunk == 0:
            self._flush()
        return self._values(walked, size)

    def _walk(self, walker: Posterior, number: int, stages: list[Stage]) -> Walked:
        random = np.random.default_rng([self.seed, number, self.plan.done])
        self.rows += len(self.train) * (2 if self.settings.metropolis else 1)
        if self.settings.metropolis:
            return walk_exactly(walker, self.rate, self.settings.temperature, random)
        return walk(walker, stages, self.rate, self.settings.temperature, random)

    def _trace(self, walked: list[Walked], size: float) -> None:
        found = {
            "train_loss": [one.loss for one in walked],
            "moved": [one.moved for one in walked],
            "step_size": [size] * len(walked),
        }
        if self.settings.metropolis:
            found["acceptance"] = [one.accepted for one in walked]
        if not self.classes:
            found["noise"] = [math.sqrt(walker.variance) for walker in self.walkers]
        self.record.trace(found)

    def _adapt(self, walked: list[Walked]) -> None:
        """Change the step size by what all chains met; not by the first epoch, in which slopes change too fast."""
        settings = self.settings
        if settings.metropolis:
            self.rate = steadier(self.rate, sum(one.accepted for one in walked) / len(walked))
        elif settings.batch_noise and self.plan.done:
            unit = 2 / len(self.train)
            spread = sum(one.spread for one in walked) / len(walked)
            most = settings.learning_rate * unit
            self.rate = calmer(self.rate * unit, most, settings.batch_noise, settings.temperature, spread) / unit

    def _draw(self) -> None:
        """Take the chains' places as draws."""
        settled = [walker.settled() for walker in self.walkers]
        self.poll.add(network for network, _, _ in settled)
        values = {
            "log_posterior": [-energy for _, _, energy in settled],
            "projection": [diagnosis.projection(meant(raw, self.classes).numpy()) for _, raw, _ in settled],
        }
        weights = torch.stack([walker.weights for walker in self.walkers])
        # Random numbers start anew in every epoch from these three, so that there is no other random state.
        random = [[self.seed, number, self.plan.done + 1] for number in range(len(self.walkers))]
        self.record.draw(values, weights, random)

    def _values(self, walked: list[Walked], size: float) -> dict[str, float]:
        """An epoch's figures: of the average of all draws so far, before there are any of the chains as they stand."""
        found = {
            "train_loss": sum(one.loss for one in walked) / len(walked),
            "learning_rate": size,
            **self._diagnosed(),
        }
        if not self.record.draws:
            energies = [walker.energy(one.loss) for walker, one in zip(self.walkers, walked, strict=True)]
            found["log_posterior"] = -sum(energies) / len(energies)
        if self.settings.metropolis:
            found["acceptance"] = sum(one.accepted for one in walked) / len(walked)
        poll = self.poll
        if not poll.count:
            poll = self._poll()
            poll.add(walker.module for walker in self.walkers)
        return {**found, **poll.figures("valid")}

    def _diagnosed(self) -> dict[str, float]:
        found = {"rows": float(self.rows), **self.record.figures}
        if self.record.draws:
            found["log_posterior"] = float(self.record.last("log_posterior").mean())
        return found

    def _flush(self) -> None:
        modules = [tensors(walker.module) for walker in self.walkers]
        named = {f"{number}/{name}": value for number, found in enumerate(modules) for name, value in found.items()}
        state = {
            "done": self.plan.done,
            "total": self.plan.total,
            "elapsed": self.plan.elapsed if self.settings.seconds else 0.0,  # so that the same chain has the same bytes
            "rate": self.rate,
            "rows": self.rows,
            "noisy": self.noisy,
            "polled": self.poll.count,
            "variances": [walker.variance for walker in self.walkers],
        }
        self.record.flush({**named, "poll": self.poll.total}, state)

    def _resume(self) -> None:
        """Go on from the last chunk, where there is one."""
        last = self.record.resume()
        if last is None:
            return
        state = last.state
        for number, walker in enumerate(self.walkers):
            start = f"state/{number}/"
            named = {name.removeprefix(start): v for name, v in last.tensors.items() if name.startswith(start)}
            walker.module.load_state_dict(named)
            walker.variance = state["variances"][number]
        self.poll.total, self.poll.count = last.tensors["state/poll"], state["polled"]
        self.rate, self.rows, self.noisy = state["rate"], state["rows"], state["noisy"]
        self.plan.done, self.plan.total, self.plan.spent = state["done"], state["total"], state["elapsed"]

    def _finish(self) -> Iterator[Progress]:
        """The average of some draws as the result, or the network that has learned it."""
        places = consensus.spread(self.record.chain, self.settings.members)
        module = consensus.network(self.walkers[0], places, self.classes)
        values = {**self._diagnosed(), "members": float(len(places)), **self._figures(module)}
        note = "; ".join(part for part in (self.plan.note(1), diagnosis.words(self.record.statistics)) if part)
        self._summarize()
        line = f"train.mcmc: {self.settings.chains} x {self.plan.done} epochs, the mean of {len(places)} draws"
        if self.settings.distill:
            yield from self._distill(module, values, note, line)
            return
        fold(module, self.unit)
        result = self.model.with_body(module, "network", line)
        yield Progress(self.plan.done, self.plan.done, values, note, result)

    def _distill(self, module: torch.nn.Module, values: dict[str, float], note: str, line: str) -> Iterator[Progress]:
        """Teach the average to one network; epochs and rows go on counting."""
        student = replace(self.model, history=(*self.model.history, line))
        recipe = Recipe(
            epochs=self.settings.distill,
            batch=self.settings.batch,
            learning_rate=TAUGHT_RATE,
            schedule="one_cycle",
            seconds=max(LEAST_S, self.settings.seconds - self.plan.elapsed) if self.settings.seconds else 0.0,
        )
        teach = consensus.objective(module, self.classes)
        training = Training(student, self.data, self.task, recipe, self.seed, warm=self.warm, objective=teach)
        folder = self.record.chain.folder
        # What a checkpoint belongs to says nothing of the teacher: another number of draws is another one.
        name = f"distilled-{int(values['members'])}-{self.settings.distill}.safetensors"
        for progress in resumed(training, folder / name if folder else None):
            yield self._after(progress)
        last = self._after(training.finish("train.mcmc.distill"))
        note = "; ".join(part for part in (note, "one network has learned their mean", last.note) if part)
        yield replace(last, values={**values, **last.values}, note=note)

    def _after(self, progress: Progress) -> Progress:
        """A step of a training that follows the chains."""
        rows = self.rows + progress.values.get("rows", 0.0)
        done = self.plan.done
        values = {**progress.values, "rows": rows}
        return replace(progress, step=done + progress.step, total=done + progress.total, values=values)

    def _figures(self, module: torch.nn.Module) -> dict[str, float]:
        """How good the result is on validation rows, and on training rows."""
        poll, seen = self._poll(), Poll(self.model, self.task, some(self.train, SEEN), self.unit)
        poll.add([module])
        seen.add([module])
        quality = f"train_{self.task.metrics[0]}"
        return {**poll.figures("valid"), quality: seen.figures("train")[quality]}

    def _summarize(self) -> None:
        """Put transition and marginal statistics beside the stored chains."""
        folder = self.record.chain.folder
        if folder is None:
            return
        trace = {name: values.numpy() for name, values in self.record.chain.joined("trace").items()}
        weights = self.record.chain.joined("draw")["weights"]
        told = diagnosis.summary(self.record.statistics, trace, self.walkers[0].named(weights))
        write_file(folder / "summary.json", msgspec.json.format(msgspec.json.encode(told), indent=2))
