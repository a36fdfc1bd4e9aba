"""How memories are ranked, and what turns text into vectors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from soma_operator.api.base import ApiModel, Rule
from soma_operator.api.values import DurationOrNone, MemoryType, ShortText

FeatureName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][-A-Za-z0-9_]*$", max_length=63)]
# What admission lets through must start: the runtime adds in another order, and allows twice this excess over 1.
MOST_WEIGHT = 1 + 5e-10
Weight = Annotated[float, Field(ge=0, le=1)]
Exponent = Annotated[float, Field(ge=0, le=8)]
PositiveExponent = Annotated[float, Field(ge=0.01, le=8)]


class EmbeddingProvider(StrEnum):
    AUTO = "auto"
    TRANSFORMER = "transformer"
    HASH = "hash"
    CLIENT = "client"


class ScoringPreset(StrEnum):
    """Starting points for the exponents and the half-life; every field that is set wins over its preset."""

    SIMILARITY = "similarity"
    BALANCED = "balanced"
    RECENT = "recent"


PRESET_HALF_LIFE: dict[ScoringPreset, str | None] = {
    ScoringPreset.SIMILARITY: None,
    ScoringPreset.BALANCED: "30d",
    ScoringPreset.RECENT: "1d",
}


class Embedding(ApiModel):
    """What turns text into vectors."""

    provider: EmbeddingProvider = EmbeddingProvider.AUTO
    """auto uses the sentence transformer in the image and falls back to hash where there is none; transformer insists
    on it; hash is deterministic and finds words, not meanings; client stores only what brings its own vector."""

    model: ShortText | None = None
    """Name of the model in the image or on the volume. Left out: the image's own, all-MiniLM-L6-v2."""

    revision: ShortText | None = None
    """Pinned revision of the model; vectors of different revisions are never compared with each other."""

    dimension: Annotated[int, Field(ge=1, le=4096)] = 384
    """Length of every vector. Immutable, because stored vectors cannot change theirs: to change it, create another
    SomaMemory and import into it."""


class Hybrid(ApiModel):
    """Whether words count beside meaning."""

    by_default: bool = False
    """Whether a recall that does not ask for it also looks for the query's words."""

    boost: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Factor for memories that contain the words; 1 gives them no advantage."""


class Scoring(ApiModel):
    """score = max(0, similarity)^similarityExponent * importance^importanceExponent * 2^(-age/halfLife) * product of
    feature^weight, every factor between 0 and 1. Exact: no memory that scores higher is missed. Old memories fade in
    rank; nothing is deleted."""

    preset: ScoringPreset = ScoringPreset.SIMILARITY
    """Starting point: similarity ranks by meaning and importance alone (no half-life), balanced fades over 30d, recent
    over 1d. Fields that are set win."""

    half_life: DurationOrNone | None = None
    """Age at which a memory counts half as much as it did when new, such as 30d, 12h or 1y; after two half-lives a
    quarter. Units: ms, s, m, h, d, w, y. none, or left out without a preset that sets it: age does not count.
    Nothing is rewritten or deleted when it changes, and a single recall may ask for another one."""

    half_life_by_type: Annotated[dict[MemoryType, DurationOrNone], Field(max_length=32)] = Field(default_factory=dict)
    """Half-life for single memory types, such as {episodic: 7d, semantic: none}; other types use halfLife."""

    importance_exponent: Exponent = 1.0
    """How strongly importance counts (alpha in the formula): 0 ignores it, 1 is proportional."""

    similarity_exponent: PositiveExponent = 1.0
    """How strongly similarity counts (beta in the formula): above 1 sharpens differences, below 1 flattens them; at
    least 0.01."""

    feature_weights: Annotated[dict[FeatureName, Weight], Field(max_length=16)] = Field(default_factory=dict)
    """Exponent of each feature that clients store with a memory (0 to 1 each). Their sum is at most 1, so that no set
    of features outweighs similarity."""

    hybrid: Hybrid = Field(default_factory=Hybrid)
    """Whether words count beside meaning."""

    embedding: Embedding = Field(default_factory=Embedding)
    """What turns text into vectors."""

    @property
    def resolved_half_life(self) -> str | None:
        """The half-life in force, such as `30d`, or None when age does not count."""
        given = PRESET_HALF_LIFE[self.preset] if self.half_life is None else self.half_life
        return None if given == "none" else given

    rules = (
        Rule(
            "!has(self.featureWeights) || self.featureWeights.map(name, self.featureWeights[name]).sum() "
            f"<= {MOST_WEIGHT!r}",
            "the featureWeights add up to more than 1: lower them until their sum is at most 1",
            ".featureWeights",
            lambda scoring: sum(scoring.feature_weights.values()) <= MOST_WEIGHT,
        ),
    )
