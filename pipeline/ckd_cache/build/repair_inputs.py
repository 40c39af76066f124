"""What a recipe says of where damaged shards were made from; looked at only when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ckd_cache.build.increments import check_increments
from ckd_cache.build.planning import find_teacher, plan_teacher
from ckd_cache.build.recipe import Recipe
from ckd_cache.build.segments_stage import Cut, plan_segments
from ckd_cache.build.session import Session
from ckd_cache.build.support_stage import support_identity
from ckd_cache.build.teacher_stage import PlannedTeacher, check_teacher_record
from ckd_cache.build.twin_planning import TwinCut, check_twin, twin_cut
from ckd_cache.corpus.tokenizer import CorpusTokenizer, load_tokenizer
from ckd_cache.errors import IncompleteCacheError
from ckd_cache.fingerprint import fingerprint
from ckd_cache.format.paths import support_part

__all__ = ["RepairInputs"]


@dataclass(frozen=True, slots=True)
class RepairInputs:
    """Sources, tokenizers and teachers of a recipe, for one cache.

    Attributes:
        session: on the cache.
        recipe: where things are.
        root: folder that the recipe's relative paths are relative to.
    """

    session: Session
    recipe: Recipe
    root: Path

    def cut(self, set_name: str) -> Cut:
        """How the corpus of a set is cut, with the tokenizer that lies in the cache.

        Raises:
            IncompleteCacheError: the recipe has no such set.
            CorpusError: a source cannot be read.
            MismatchError: the corpus is not that of the cache.
        """
        if set_name not in self.recipe.each_set():
            message = f"the recipe has no set {set_name}; name the recipe that the cache is of."
            raise IncompleteCacheError(message)
        record = self.session.record(set_name)
        cut = plan_segments(
            self.recipe, self.root, set_name, self._own_tokenizer(set_name), self.session.progress
        )
        support = support_identity(cut.tokenizer)
        check_increments(set_name, record, cut.identity, cut.layout, support)
        return cut

    def twin(self, set_name: str, source: str) -> TwinCut:
        """How a twin set is cut, with the tokenizers that lie in the cache.

        Args:
            set_name: the twin set.
            source: the set whose twin it is.

        Raises:
            IncompleteCacheError: the recipe has no such set.
            CorpusError: a source cannot be read.
            MismatchError: the corpus is not that of the cache.
        """
        record = self.session.record(set_name)
        twin = twin_cut(self.cut(source), set_name, record, self._own_tokenizer(set_name))
        check_twin(twin, self.session.record(source), record)
        return twin

    def teacher(self, set_name: str, name: str) -> PlannedTeacher:
        """A teacher as it runs on a set.

        Raises:
            IncompleteCacheError: the recipe does not name it.
            TeacherError: it cannot be used.
            MismatchError: it is not that of the cache.
        """
        named = next((one for one in self.recipe.teachers if one.name == name), None)
        if named is None:
            message = f"the recipe names no teacher {name}; add it to the recipe."
            raise IncompleteCacheError(message)
        record = self.session.record(set_name)
        files = find_teacher(self.root, named, self.session.progress)
        tokenizer = self._own_tokenizer(set_name)
        planned = plan_teacher(self.recipe, named, files, tokenizer, record.segment_tokens)
        check_teacher_record(set_name, record, planned)
        return planned

    def tokenizer_of(self, support: str) -> CorpusTokenizer:
        """The recipe's tokenizer whose ids are the support with a fingerprint.

        Raises:
            CorpusError: a tokenizer cannot be loaded.
            IncompleteCacheError: no set and no teacher of the recipe has it.
        """
        found = [self.recipe.tokenizer_of(one) for one in self.recipe.each_set().values()]
        found += [(t.model, t.revision) for t in self.recipe.teachers if t.tokenizer == "twin"]
        for named, revision in found:
            tokenizer = load_tokenizer(named, self.root, revision=revision)
            if fingerprint(support_identity(tokenizer)) == support:
                return tokenizer
        message = f"no tokenizer of the recipe is that of support {support}."
        raise IncompleteCacheError(message)

    def _own_tokenizer(self, set_name: str) -> CorpusTokenizer:
        folder = support_part(self.session.record(set_name).support)
        return load_tokenizer(str(self.session.writer.path.absolute() / folder), self.root)
