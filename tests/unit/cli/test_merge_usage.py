"""What is wrong in the command line of ``ckd-cache merge`` by itself, whatever the cache holds."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from ckd_cache.cli.main import cli


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "x", "--teacher", ""], "'--teacher': found '', expected a name"),
        (["--name", "x", "--teacher", "a", "--teacher", "a"], "found 'a' more than once"),
        (["--name", "x", "--set-name", ""], "'--set-name': found '', expected a name"),
        (["--name", "x", "--tau", "nan"], "'--tau': found nan, expected a finite number"),
        (["--name", "x", "--tau", "inf"], "'--tau': found inf, expected a finite number"),
        (["--name", "x", "--temperature", "nan"], "'--temperature': found nan"),
        (["--name", "x", "--tau", "-0.1"], "--tau"),
        (["--name", "x", "--weighting", "fixed"], "--weight TEACHER=SHARE"),
        (["--name", "x", "--weight", "a=1"], "set weighting to `fixed`"),
        (["--name", "x", "--weighting", "fixed", "--weight", "a"], "expected TEACHER=SHARE"),
        (["--name", "x", "--weighting", "fixed", "--weight", "a=-1"], "expected TEACHER=SHARE"),
        (["--name", "x", "--weighting", "fixed", *["--weight", "a=1"] * 2], "more than once"),
        (["--name", "x", "--weighting", "fixed", "--weight", "a=0"], "not all 0"),
        (
            ["--name", "x", "--weighting", "fixed", "--weight", "a=1", "--teacher", "b"],
            "weights are given for a 1, expected one for each of its teachers b",
        ),
        (["--name", "x", "--mixture", "geometric"], "Set missing to `exact`"),
        (["--name", "x", "--calibrate", "target", "--temperature", "2"], "temperature is 2.0"),
        (["--name", "x", "--weighting", "entropy", "--prior", "fitted"], "which has no prior"),
        (["--name", "x", "--missing", "all"], "--missing"),
        (["--name", "x", "--weighting", "random", "--seed", "-1"], "--seed"),
        (["--name", "x", "--threads", "0"], "--threads"),
        (["--name", "x", "--seed", "4"], "which shuffles nothing"),
        (
            [
                *["--name", "x", "--weighting", "gold_sharpened_uniform"],
                *["--mixture", "geometric", "--missing", "exact"],
            ],
            "Set mixture to `arithmetic`",
        ),
        (["--name", "x", "--top-k", "0"], "--top-k"),
        (["--name", "x", "--weighting", "best"], "--weighting"),
        (["--name", ""], "a target cannot be called ''"),
        (["--name", "a b"], "a target cannot be called 'a b'"),
        ([], "--name"),
    ],
)
def test_usage_errors_need_no_cache(arguments, said):
    done = CliRunner().invoke(cli, ["merge", "nowhere.ckd", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr


def test_all_else_is_a_failure():
    done = CliRunner().invoke(cli, ["merge", "nowhere.ckd", "--name", "x"])
    assert done.exit_code == 1
