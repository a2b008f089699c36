"""Shared and private parts of the vectors, kept apart and fused: Domain Separation Networks for two towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from crossrec.adaptation.base import Adaptation, DomainViews
from crossrec.adaptation.options import SPACES
from crossrec.adaptation.options import Space as Spaces
from crossrec.data.batches import TrainingBatch
from crossrec.data.schema import Domain
from crossrec.encoders.base import ItemEncoder
from crossrec.errors import CrossrecError
from crossrec.strategies.base import Space, Strategy
from crossrec.strategies.private_towers import FUSIONS, Fusion, PrivateTowers
from crossrec.strategies.readings import check_readings
from crossrec.strategies.terms import shaped_spaces, warn_of_unshaped

Private = bool | Literal["history"]


class SharedPrivate(Strategy):
    """Train on all domains; a vector's shared part is compared between domains, its private part is the domain's own.

    Loss: L_rec + sum_k w_k L_k. L_rec scores the fused vectors. Pairwise terms (mmd, coral...) compare the shared
    vectors; ``difference`` or ``club`` keep shared and private apart, ``simse`` makes them hold all of the tower's
    vector, ``vib`` bounds what the shared part holds (of ``variational``). The parts: :class:`PrivateTowers`, which
    starts as the identity, so the first scores are those of strategy=merged.

    The maps of the parts are trained in a space that a term of weight above 0 reads, and stay as they are otherwise:
    with all weights 0 the run is that of strategy=merged, bit for bit. The parts alone, which no term shapes, are those
    of a weight too small to be felt, such as 1e-12.

    With ``private=history`` nothing is added to the tower: a user's shared part is what the encoder of mixed histories
    reads, the private part what the encoder of own histories reads, and their fusion, which is scored, is that of the
    user encoder (``user_encoder=mixed_and_own``: a gate by default). Nothing is reconstructed, as nothing is parted. A
    user who has no event yet in the domain to recommend in has no private part, and is not compared. The split is that
    of Cao et al., "Contrastive cross-domain sequential recommendation" (C2DSR), CIKM 2022, whose users are read from
    the cross-domain and the single-domain sequence; its contrast of the two with corrupted sequences is not here.

    Source: Bousmalis et al., "Domain separation networks", NIPS 2016, eq. (1). Deviations: what is parted and
    reconstructed is the vector of a tower that is trained with the rest, not a fixed image; the encoders and the
    decoder on top are linear and start as the identity; the task, recommendation, has labels in all domains, and reads
    the shared vector alone, as in the paper, with ``fusion=shared`` only; all terms run from the first step.

    Args:
        space: whose vectors have parts: ``users``, ``items`` or ``both``. The other tower is as in strategy=merged.
        private: ``true``; ``false``: nothing is added, the shared vector is the tower's, and only it can be compared;
            ``history``: the parts are two readings of the user's history, see above; of ``space=users``.
        fusion: what is scored, of ``private=true``: ``gate``, ``sum`` or ``concat-linear`` of both parts, so what only
            one domain has is scored there too; ``shared``, the shared part alone, and the private one, zero at first,
            serves the reconstruction (``simse``), by which it learns.
        variational: the shared part is drawn from a Gaussian, for ``vib``; needs ``private=true``.
        arguments: see :class:`Strategy`.

    Raises:
        CrossrecError: an option has none of its values.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        domains: Sequence[Domain],
        space: Spaces = "users",
        private: Private = True,
        fusion: Fusion = "gate",
        variational: bool = False,
        **arguments: Any,
    ) -> None:
        if space not in SPACES:
            raise CrossrecError(f"strategy.space={space!r} must be users, items or both")
        if fusion not in FUSIONS:
            raise CrossrecError(f"strategy.fusion={fusion!r} must be {', '.join(FUSIONS[:-1])} or {FUSIONS[-1]}")
        if not isinstance(private, bool) and private != "history":
            raise CrossrecError(f"strategy.private={private!r} must be true, false or history")
        if not isinstance(variational, bool):
            raise CrossrecError(f"strategy.variational={variational!r} must be true or false")
        if variational and private is not True:
            raise CrossrecError("strategy.variational=true needs strategy.private=true: without it nothing is drawn")
        if fusion != "gate" and private is not True:
            raise CrossrecError(
                f"strategy.fusion={fusion} needs strategy.private=true: without it nothing is fused here"
            )
        super().__init__(item_encoder=item_encoder, domains=domains, **arguments)
        self.spaces = SPACES[space]
        self.readings = check_readings(self, space) if private == "history" else None
        made = self.spaces if private is True else ()
        shaped = shaped_spaces(self)
        towers = [
            PrivateTowers(item_encoder.dim, len(domains), fusion=fusion, variational=variational, learn=s in shaped)
            for s in made
        ]
        # a ModuleDict takes no key "items"
        self.towers = nn.ModuleDict({f"of_{s}": tower for s, tower in zip(made, towers)})

    def setup(self, stage: str) -> None:
        """Check the adaptation terms before training."""
        super().setup(stage)
        if stage == "fit" and self.towers:
            warn_of_unshaped(self, self.spaces)

    def read(self, vectors: Tensor, domains: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """User state after each event; with ``private=history`` (b, l, 3 f), see :class:`Readings`."""
        if self.readings is None:
            return super().read(vectors, domains, mask, wanted)
        return self.readings.states_for(vectors, domains, mask, wanted)

    def known_users(self, states: Tensor, layers: dict[str, Tensor]) -> Tensor | None:
        """Rows with a state; with ``private=history`` those whose own history, the private part, has one."""
        return super().known_users(states, layers) if self.readings is None else layers["private"].any(1)

    def represent(self, space: Space, vectors: Tensor, domains: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the fused vectors, and the parts as layers; see :class:`PrivateTowers`."""
        if space == "users" and self.readings is not None:
            return self.readings.part(vectors)
        if f"of_{space}" in self.towers:
            return cast("tuple[Tensor, dict[str, Tensor]]", self.towers[f"of_{space}"](vectors, domains))
        return vectors, {"shared": vectors} if space in self.spaces else {}

    def adaptation_views(self, views: dict[str, DomainViews], batch: TrainingBatch) -> dict[str, DomainViews]:
        """Show the shared vectors, also as partners; the scored ones are their fusion with the private."""
        shown = super().adaptation_views(views, batch)
        compared = {
            space: view.layers["shared"] if space in self.spaces else view.vectors for space, view in shown.items()
        }
        partners = {"users": compared["items"], "items": compared["users"]}
        return {
            space: replace(view, vectors=compared[space], layers={**view.layers, "partner": partners[space]})
            for space, view in shown.items()
        }

    def recommendation_loss(self, batch: TrainingBatch) -> tuple[Tensor, dict[str, DomainViews]]:
        """Loss of the fused vectors; maps that it does not read, as the decoder, are tied to it by 0: DDP wants it."""
        loss, views = super().recommendation_loss(batch)
        for parameter in self.towers.parameters():
            loss = loss + 0.0 * parameter.sum()
        return loss, views

    def on_train_epoch_end(self) -> None:
        """Say where terms read private parts that nothing has brought away from zero."""
        super().on_train_epoch_end()
        for term in self.adaptation.values():
            assert isinstance(term, Adaptation)
            if self.current_epoch == 0 and term.weight > 0 and "private" in term.needs and self._all_zero(term.space):
                rank_zero_warn(
                    f"adaptation.{term.name} reads private parts, but all are zero: with strategy.fusion=shared they "
                    "learn by the reconstruction alone, so give adaptation.simse a weight in the same space"
                )

    def _all_zero(self, space: str) -> bool:
        towers = [cast(PrivateTowers, self.towers[f"of_{s}"]) for s in SPACES[space] if f"of_{s}" in self.towers]
        return bool(towers) and all(t.fusion == "shared" and not t.private.any() for t in towers)
