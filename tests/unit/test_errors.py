"""The exception tree: each class has its exit code and HTTP status, and survives pickling."""

from __future__ import annotations

import pickle

import pytest

import pycontain
from pycontain import errors

# class -> (exit code of the command line, HTTP status of the Docker API)
TABLE = {
    "PycontainError": (125, 500),
    "InvalidArgument": (125, 400),
    "NotFound": (125, 404),
    "ImageNotFound": (125, 404),
    "ContainerNotFound": (125, 404),
    "Conflict": (125, 409),
    "Unsupported": (125, 501),
    "VolumeNotFound": (125, 404),
    "RegistryError": (125, 502),
    "SetupFailed": (125, 500),
    "ProgramNotFound": (127, 400),
    "NotExecutable": (126, 400),
    "ContainerExited": (125, 500),
    "TimeoutExpired": (124, 500),
}


def _classes() -> dict[str, type[errors.PycontainError]]:
    values = vars(errors).values()
    return {
        each.__name__: each for each in values if isinstance(each, type) and issubclass(each, errors.PycontainError)
    }


def test_table_is_total() -> None:
    assert {name: (each.exit_code, each.http_status) for name, each in _classes().items()} == TABLE


def test_every_class_is_exported() -> None:
    assert set(_classes()) <= set(errors.__all__)
    public = set(_classes()) & set(pycontain.__all__)
    assert public == set(_classes())


@pytest.mark.parametrize("status", [0, 401])
def test_registry_error_keeps_its_fields_in_a_pickle(status: int) -> None:
    error = pickle.loads(pickle.dumps(errors.RegistryError("denied: x", status=status, code="DENIED")))
    assert (type(error), str(error), error.status, error.code) == (errors.RegistryError, "denied: x", status, "DENIED")
