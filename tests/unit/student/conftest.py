"""The small cache of ``student_cache.py``, built once, and recipes for it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

SCRIPT = Path(__file__).with_name("student_cache.py")
RECIPE: dict[str, Any] = {
    "model": {
        "config": {
            "model_type": "bert",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 32,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
    },
    "loss": {"distill": 0.9, "hard": 0.1},
    "data": {"window": 4},
    "training": {"max_steps": 6, "per_device_train_batch_size": 8, "use_cpu": True},
}


@pytest.fixture(scope="session")
def student_cache() -> ModuleType:
    """The module that builds the cache."""
    spec = importlib.util.spec_from_file_location("student_cache", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["student_cache"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cache(
    student_cache: ModuleType,
    tiny_tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A complete cache; not to be changed."""
    return student_cache.build(tmp_path_factory.mktemp("cache") / "s.ckd", tiny_tokenizer_folder)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the recipe, with sections updated: ``recipe_file(training={"max_steps": 3})``."""

    def write(**sections: dict[str, Any]) -> Path:
        path = tmp_path / "student.yaml"
        path.write_text(
            yaml.safe_dump(
                {name: {**RECIPE.get(name, {}), **sections.get(name, {})} for name in RECIPE}
            )
        )
        return path

    return write
