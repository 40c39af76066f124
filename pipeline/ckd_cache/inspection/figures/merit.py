"""Whether it says anything for a target that it finds gold likely."""

from __future__ import annotations

from ckd_cache.format.manifest import Manifest, TargetRecord
from ckd_cache.format.stats import add_stats
from ckd_cache.inspection.figures.uncertain import coverage_figures
from ckd_cache.merge.lineup import lineup_of
from ckd_cache.merge.weightings import WEIGHTINGS

__all__ = ["why_no_merit"]


def why_no_merit(manifest: Manifest, set_name: str, record: TargetRecord) -> str | None:
    """Why the likelihood of gold under a target is no merit of it; None where it is one.

    Only where nothing of a target depends on gold, its likelihood can be set beside that of others.

    Args:
        manifest: of the cache.
        set_name: the set that has the target.
        record: of the target.

    Returns:
        A clause that begins with a small letter and has no full stop at its end.
    """
    known = WEIGHTINGS.get(record.weighting)
    if known is None:
        return f"the rule {record.weighting} is not known here and may look at gold"
    if known.uses_gold:
        return "the rule looks at gold"
    others = _of_another_tokenizer(manifest, set_name, record)
    if not others:
        return None
    names = ", ".join(others)
    heard = (
        f"a teacher with another tokenizer ({names}) is heard"
        if len(others) == 1
        else f"teachers with another tokenizer ({names}) are heard"
    )
    return f"{heard} only where gold is one token on both sides, so who is heard depends on gold"


def _of_another_tokenizer(manifest: Manifest, set_name: str, record: TargetRecord) -> list[str]:
    members = lineup_of(manifest, set_name)
    twins = {name for name, member in members.items() if member.twin}
    # Targets outlive their teachers: of those that were dropped, the coverage remains.
    heard = coverage_figures(add_stats(part.stats for part in record.parts.values()))
    return [name for name in record.teachers if name in twins or name in heard]
