"""Docker's document of a container, and its Go types: two tables that have to agree."""

from __future__ import annotations

from pycontain.cli import container_template
from pycontain.cli.gotemplate import NilList, NilMap, NilPointer
from pycontain.engine import container_document


def test_every_field_of_a_host_config_has_its_type_in_go() -> None:
    plain = container_document._unset()
    assert list(plain) == list(container_template._HOST_CONFIG)
    for name, make in container_template._HOST_CONFIG.items():
        typed = make()
        assert plain[name] == (None if isinstance(typed, (NilList, NilMap, NilPointer)) else typed), name


def test_what_is_shown_only_if_it_is_set_exists() -> None:
    assert set(container_template._HOST_CONFIG) >= container_document.HOST_CONFIG_IF_SET
    assert set(container_template._CONFIG) >= container_document.CONFIG_IF_SET
