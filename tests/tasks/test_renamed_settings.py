"""Renamed settings: an earlier name is read as the present one, and names no other run folder."""

import attrs
import pytest

from tasks.core.settings import (
    ConfigError,
    SourcedValue,
    build,
    digest_values,
    fields,
    present_names,
    setting,
    with_first_defaults,
)


@attrs.frozen(kw_only=True)
class Kitchen:
    """Settings of which one had two names before."""

    num_eggs: int = setting(2, "eggs in the pan", ge=1, renamed_from=("ova", "eggs"))
    heat: float = setting(0.5, "share of the full heat", first_default=1.0)


def given(**values: object) -> dict[str, SourcedValue]:
    return {name: SourcedValue(value, f"--set {name}") for name, value in values.items()}


@pytest.mark.parametrize("name", ["ova", "eggs"])
def test_an_earlier_name_is_the_setting(name: str) -> None:
    """Whoever builds settings with an earlier name is told the present one."""
    with pytest.warns(DeprecationWarning, match=rf"--set {name}: setting '{name}' is now 'num_egg"):
        assert build(Kitchen, given(**{name: 3})).num_eggs == 3


def test_a_setting_is_given_once() -> None:
    """Two of its names at once are a mistake, in either order."""
    for values in ({"ova": 1, "num_eggs": 2}, {"num_eggs": 2, "ova": 1}, {"ova": 1, "eggs": 2}):
        with pytest.raises(ConfigError, match="the earlier name of 'num_eggs'"):
            present_names(Kitchen, given(**values))


def test_a_bad_value_is_refused_by_the_present_name() -> None:
    """An error names the place as it was written, and the setting as it is called now."""
    with (
        pytest.warns(DeprecationWarning, match="num_eggs"),
        pytest.raises(ConfigError, match="--set ova: num_eggs: 0 is out of range") as caught,
    ):
        build(Kitchen, given(ova=0))
    assert (caught.value.place, caught.value.field) == ("--set ova", "num_eggs")


def test_a_misspelt_earlier_name_has_the_present_one_as_its_hint() -> None:
    """Who remembers the earlier name by half is led to the present one."""
    with pytest.raises(ConfigError, match=r"did you mean num_eggs\?"):
        build(Kitchen, given(egg=1))


def test_a_run_folder_is_named_by_the_first_name() -> None:
    """What a digest is computed from does not change when a setting gets another name."""
    assert digest_values(Kitchen(num_eggs=5, heat=1.0)) == {"ova": 5}
    assert digest_values(Kitchen(num_eggs=5), {"num_eggs": "five"}) == {"ova": "five", "heat": 0.5}


def test_an_earlier_run_is_read_by_its_own_names() -> None:
    """The first defaults of a run's time are found whichever names its settings have."""
    run = given(ova=7, heat=1.0)
    assert {
        name: item.value for name, item in with_first_defaults(Kitchen, run, run, "here").items()
    } == {"heat": 1.0, "num_eggs": 7}


def test_arguments_of_a_setting_have_their_earlier_names() -> None:
    """`meaning` and `changeable` are understood; what never was an argument is not."""
    with pytest.warns(DeprecationWarning, match=r"argument '(meaning|changeable)' of setting\(\)"):

        @attrs.frozen(kw_only=True)
        class Earlier:
            spoons: int = setting(1, meaning="spoons on the table", changeable=True)

    assert fields(Earlier)["spoons"].metadata["help"] == "spoons on the table"
    assert fields(Earlier)["spoons"].metadata["mutable_after_training"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'meening'"):
        setting(1, meening="spoons on the table")
