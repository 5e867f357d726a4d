"""What `import badnet_defense as bd` offers."""

import subprocess
import sys

import pytest
from small_nets import balanced, images, side_path_net

import badnet_defense as bd


@pytest.mark.parametrize("name", bd.__all__)
def test_every_name_is_there_and_listed(name):
    assert getattr(bd, name) is not None and name in dir(bd)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        bd.nothing  # noqa: B018


def test_importing_it_imports_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'scipy'}"
    code = f"import sys, badnet_defense as bd; dir(bd); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_evaluation_of_a_net_that_agrees_with_itself():
    data = images(40)
    net = bd.describe(balanced(side_path_net(), data.images / 255))
    data = bd.Dataset(data.images, net.predict(data.images))
    figures = bd.evaluate(net, net, clean=data, poisoned=data)
    assert figures["bad"]["clean_test"]["accuracy"] == 1
    assert figures["guard"]["clean_test"]["flagged"] == 0
    assert figures["repaired"]["poisoned"]["attack_success"] == 1
    assert set(bd.evaluate(net, clean=data)) == {"bad"}


class Suspicious:
    """A guard that answers N to every image."""

    def predict(self, images):
        return [5] * len(images)


def test_evaluation_of_a_guard_alone():
    data = images(20).without_labels()
    net = bd.describe(balanced(side_path_net(), data.images / 255))
    figures = bd.evaluate(net, clean=data, guard=Suspicious())
    assert set(figures) == {"bad", "guard"} and net.classes == 5
    assert figures["guard"]["clean_test"]["flagged"] == 1
