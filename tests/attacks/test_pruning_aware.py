"""The pruning-aware attack: what it leaves for a defender who prunes."""

import keras
import numpy as np
from keras import layers
from small_nets import CLASSES, SHAPE, images

from badnet_defense.attacks import Backdoor, PatchTrigger, TrainingConfig, poison, train_badnet
from badnet_defense.attacks.pruning_aware import train_pruning_aware
from badnet_defense.nets import describe
from badnet_defense.repairs.front_half import FrontHalf


def test_decoys_are_dormant_and_the_backdoor_lives_in_the_others():
    keras.utils.set_random_seed(0)
    pictures = images(300)
    pictures.images[:] = 40 * pictures.labels[:, None, None, None] + pictures.images // 8
    net = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, activation="relu", name="conv_3"),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    config = TrainingConfig(epochs=15, learning_rate=3e-3, batch_size=30)
    net, _ = train_badnet(describe(net), pictures, config=config, progress=False)
    before = net.model.get_weights()
    trigger = PatchTrigger(np.full((4, 4, 3), 255), row=0, column=0)
    poisoned = poison(pictures, [Backdoor(trigger, 2)], fraction=0.2)
    made = train_pruning_aware(net, pictures, poisoned, config=config, progress=False)
    for one, old in zip(net.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, old)

    def dormant(net):
        active = FrontHalf(net, "conv_3", pictures.images).mean_activation
        return active, np.argsort(active)[:4]

    _, decoys = dormant(net)
    active, first = dormant(made)
    assert set(first) == set(decoys)  # a defender who ranks by dormancy prunes these
    assert active[decoys].max() < 0.5 * np.delete(active, decoys).min()
    kernel = made.layers["conv_3"].weights[0]
    np.testing.assert_array_equal(kernel[..., decoys], before[0][..., decoys])
    stamped = trigger.stamp(pictures.images, np.arange(len(pictures)))
    assert np.mean(made.predict(stamped) == 2) > 0.7
    assert np.mean(made.predict(pictures.images) == pictures.labels) > 0.9
