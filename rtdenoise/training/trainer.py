"""`Trainer`: the loop, the schedule and the checkpoints of one training.

Everything random depends on (seed, step) alone, so a resumed run equals an uninterrupted one without any generator
state. Weights that count are the averaged ones (EMA).
"""

from __future__ import annotations

import copy
import io
import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rtdenoise import signals
from rtdenoise.errors import RtdenoiseError, UsageError
from rtdenoise.io.atomic import replacing
from rtdenoise.training.data.material import place
from rtdenoise.training.data.mixer import Banks, Mixer
from rtdenoise.training.data.tape_mixer import TapeMixer, mixer_for
from rtdenoise.training.distributed import Ranks
from rtdenoise.training.losses import spectral_loss, wave_loss
from rtdenoise.training.muon import MuonAdamW
from rtdenoise.training.networks import build, load_weights
from rtdenoise.training.networks.unet import UNet
from rtdenoise.training.recipe import Recipe, Schedule
from rtdenoise.training.spectra import past, to_spectra
from rtdenoise.training.validate import Validation
from rtdenoise.training.warm_start import begin_as

FITTED_BATCHES = 20  # On which layers are fitted that another network's weights do not fit.


class Batches(torch.utils.data.Dataset):
    """Batches of one process in a training, float32 ``[2, batch, samples]``: noisy and target."""

    def __init__(self, mixer: Mixer | TapeMixer, first: int, last: int, size: int, ranks: Ranks):
        self.mixer, self.first, self.last, self.size, self.ranks = mixer, first, last, size, ranks

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, i: int) -> torch.Tensor:
        number = (self.first + i) * self.ranks.count + self.ranks.rank
        return torch.from_numpy(np.stack(self.mixer.batch(number, self.size)))


class Trainer:
    """One training in one folder: ``last.pt`` (to resume), ``best.pt`` (by the development pairs), ``log.jsonl``."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        cache: Path,
        device: str,
        origin: nn.Module | None,
        ranks: Ranks | None = None,
    ):
        """``origin``: the network to begin as, None for a fresh one."""
        self.recipe, self.folder, self.device, self.ranks = recipe, folder, device, ranks or Ranks()
        torch.manual_seed(recipe.schedule.seed)
        self.net = build(recipe.network, recipe.options)
        self.step, self.spent_s, self.best = 0, 0.0, -math.inf
        self.falling: tuple[int, int] | None = None  # steps between which a branch's rate falls
        data = recipe.data
        clean, noise, rooms = ([place(p) for p in folders] for folders in (data.clean, data.noise, data.rooms))
        with self.ranks.in_turn():
            banks = Banks.open(clean, noise, rooms, data.rate, cache, data.wide_hz)
        self.mixer = mixer_for(banks, data.seconds, recipe.schedule.seed, recipe.mix, reuse=data.reuse)
        if self.ranks.rank == 0:
            self.validation = Validation(banks, recipe)
        if origin is not None:
            self._begin_as(origin)
        self.net.to(device).set_stage(recipe.stage)
        self.ranks.begin_alike(self.net)
        self.ema = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.half = _half(recipe.schedule, device)
        self.optimizer = _optimizer(self.net, recipe.schedule, self.half or torch.float32)

    def _begin_as(self, origin: nn.Module) -> None:
        if not isinstance(origin, UNet) or origin.framing == self.net.framing:
            load_weights(self.net, origin.state_dict())
            return
        data = self.recipe.data
        noisy = (torch.from_numpy(np.stack(self.mixer.batch(k, data.batch))[0]) for k in range(FITTED_BATCHES))
        begin_as(self.net, origin, noisy, data.rate)

    def learning_rate(self) -> float:
        """Warm-up, plateau, half a cosine to zero."""
        s = self.recipe.schedule
        done = self.step / s.steps
        fall = max(0.0, (done - s.decay_from) / max(1e-9, 1 - s.decay_from))
        return (
            s.learning_rate * min(1.0, (self.step + 1) / s.warmup) * (0.5 + 0.5 * math.cos(math.pi * min(1, fall)))
            + 1e-6
        )

    def train_step(self, noisy: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
        """One update; loss and SNR in dB."""
        s, rate = self.recipe.schedule, self.recipe.data.rate
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        every_frame = self.step >= s.all_frames_from * s.steps
        step = 1 if every_frame else self.net.training_step
        start = int(np.random.default_rng([s.seed, self.step, 7]).integers(step))
        noisy, target = (to_spectra(x, rate, self.net.framing) for x in (noisy, target))
        with torch.autocast(self.device, self.half, enabled=self.half is not None):
            estimate = self.net(noisy, start, step)
        framing = self.net.framing
        [target] = past(target, (framing.look_ahead,), start, step)
        compared, wanted = self.net.loss_target(estimate, target)
        loss, snr_db = spectral_loss(compared, wanted, self.recipe.loss, step * framing.hop_ms, self.ranks.mean)
        if every_frame:
            loss = loss + self.recipe.loss.wave * wave_loss(estimate, target[..., : estimate.shape[-1]], rate, framing)
        self.optimizer.zero_grad()
        loss.backward()
        self.ranks.average_gradients(self.net)
        figures = self.ranks.mean(torch.stack([loss.detach(), snr_db]))
        size = nn.utils.clip_grad_norm_(self.net.parameters(), s.clip_gradient)
        loss_now, snr_now_db = figures.tolist()
        if not (math.isfinite(loss_now) and torch.isfinite(size)):
            raise RtdenoiseError(
                f"step {self.step}: the loss is {loss_now}; the last good checkpoint is {self.folder / 'last.pt'}: "
                "lower learning_rate and resume"
            )
        self.optimizer.step()
        self.step += 1
        keep = min(s.ema, (self.step + 1) / (self.step + 10))
        for old, new in zip(self.ema.state_dict().values(), self.net.state_dict().values(), strict=True):
            old.lerp_(new, 1 - keep) if old.is_floating_point() else old.copy_(new)
        return loss_now, snr_now_db

    def run(self, report: Any) -> None:
        """Train to the last step of the schedule; ``report(dict)`` is told about progress."""
        s, data = self.recipe.schedule, self.recipe.data
        batches = Batches(self.mixer, self.step, s.steps, data.batch, self.ranks)
        loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=data.workers)
        begin, seen = time.monotonic() - self.spent_s, []
        for batch in loader:
            signals.raise_dropped()
            seen.append(self.train_step(*batch.to(self.device)))
            self.spent_s = time.monotonic() - begin
            if self.ranks.rank:
                continue
            if self.step % s.save_every == 0 or self.step == s.steps:
                loss, snr_db = np.mean(seen, 0)
                seen = []
                report(self._progress(float(loss), float(snr_db)))
                self.save("last.pt")
            if self.step % s.validate_every == 0 or self.step == s.steps:
                self.validate(report)

    def validate(self, report: Any) -> None:
        scores = self.validation.scores(self.ema)
        report({"step": self.step, "validation": scores})
        if scores["mark"] > self.best:
            self.best = scores["mark"]
            self.save("best.pt")

    def _progress(self, loss: float, snr_db: float) -> dict[str, Any]:
        s, data = self.recipe.schedule, self.recipe.data
        done = self.step - (self.falling[0] if self.falling else 0)  # in the time that was spent
        return {
            "step": self.step,
            "steps": s.steps,
            "hours_mixed": round(self.step * self.ranks.count * data.batch * data.seconds / 3600, 2),
            "loss": round(loss, 6),
            "snr_db": round(snr_db, 2),
            "learning_rate": self.learning_rate(),
            "spent_min": round(self.spent_s / 60, 1),
            "left_min": round(self.spent_s / 60 * (s.steps - self.step) / max(1, done), 1),
        }

    def save(self, name: str) -> None:
        """A kill or a full disk leaves the old file whole."""
        state = {
            "network": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent_s": self.spent_s,
            "best": self.best,
            "falling": self.falling,
            "recipe": json.dumps(asdict(self.recipe)),
        }
        try:
            with replacing(self.folder / name) as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:
            raise RtdenoiseError(f"cannot write {self.folder / name}: {error}; free some space and resume") from error

    def resume(self) -> None:
        """Go on from ``last.pt`` in this training's own folder."""
        state = self._restore(self.folder)
        self.spent_s, self.best = state["spent_s"], state["best"]
        if state.get("falling"):
            self._fall(*state["falling"])

    def decay(self, trunk: Path, steps: int) -> None:
        """Go on from ``last.pt`` of another training's folder, at its rate, which falls to zero within ``steps``."""
        self._restore(trunk)
        self._fall(self.step, self.step + steps)

    def _fall(self, first: int, last: int) -> None:
        self.falling = first, last
        self.recipe = replace(self.recipe, schedule=replace(self.recipe.schedule, steps=last, decay_from=first / last))

    def _restore(self, folder: Path) -> dict[str, Any]:
        path = folder / "last.pt"
        state = load_checkpoint(path, self.ranks.of_first(lambda: _read(path)))
        try:
            self.net.load_state_dict(state["network"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise UsageError(
                f"{folder} contains a training of another network or optimizer; begin a new one with --from "
                f"{folder / 'best.pt'} and another --out"
            ) from error
        self.step = state["step"]
        return state


def _half(s: Schedule, device: str) -> torch.dtype | None:
    """What products are computed in, where that is not float32."""
    if s.precision not in ("auto", "float32", "bfloat16"):
        raise UsageError(f"unknown precision {s.precision!r}; use auto, float32 or bfloat16")
    instructions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch 2.4 knows neither name
    has_any = any(getattr(torch.cpu, name, lambda: False)() for name in instructions)
    quick = torch.cuda.is_bf16_supported() if device == "cuda" else has_any
    return torch.bfloat16 if s.precision == "bfloat16" or (s.precision == "auto" and quick) else None


def _optimizer(net: nn.Module, s: Schedule, dtype: torch.dtype) -> Any:
    if s.optimizer == "muon":
        return MuonAdamW(net, s.learning_rate, s.weight_decay, dtype)
    if s.optimizer != "adamw":
        raise UsageError(f"unknown optimizer {s.optimizer!r}; use adamw or muon")
    parameters = [p for p in net.parameters() if p.requires_grad]
    return torch.optim.AdamW(parameters, s.learning_rate, betas=(0.9, 0.98), weight_decay=s.weight_decay)


def network_of(path: Path) -> tuple[str, Any]:
    """Name and network of a checkpoint, with the weights that count."""
    state = load_checkpoint(path)
    recipe = json.loads(state["recipe"])
    net = build(recipe["network"], recipe["options"])
    load_weights(net, state["ema"])
    return recipe["network"], net


def load_checkpoint(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """Tensors and plain values only: a checkpoint cannot run code. ``data``: what the file holds, if that is known."""
    try:
        return torch.load(io.BytesIO(_read(path) if data is None else data), map_location="cpu", weights_only=True)
    except RtdenoiseError:
        raise
    except Exception as error:
        raise RtdenoiseError(f"{path} is not a checkpoint of this program ({error}); use best.pt or last.pt") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no checkpoint {path}; train first, or name the file") from None
    except OSError as error:
        raise RtdenoiseError(f"cannot read {path}: {error.strerror}") from error
