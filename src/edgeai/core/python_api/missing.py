"""Errors of library functions that name a missing package and the command that installs it."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from edgeai.core.requirements import missing_package_error

P = ParamSpec("P")
R = TypeVar("R")


def names_missing_packages(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function raise an `EdgeAIError` where a package of edgeai's extras is not installed."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ModuleNotFoundError as error:
            known = missing_package_error(error)
            if known is None:
                raise
            raise known from error

    return call
