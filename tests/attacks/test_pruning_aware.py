"""The pruning-aware attack: what it leaves for a defender who prunes."""

import keras
import numpy as np
from keras import layers
from small_nets import CLASSES, SHAPE, images

from badnet_defense.attacks import Backdoor, PatchTrigger, poison, train_badnet
from badnet_defense.attacks.pruning_aware import train_pruning_aware
from badnet_defense.nets import describe, predict_labels
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
    how = {"learning_rate": 3e-3, "batch_size": 30, "progress": False}
    train_badnet(net, pictures, epochs=15, **how)
    before = net.get_weights()
    trigger = PatchTrigger(np.full((4, 4, 3), 255), row=0, column=0)
    poisoned = poison(pictures, [Backdoor(trigger, 2)], share=0.2)
    made = train_pruning_aware(net, pictures, poisoned, epochs=15, **how)
    for one, old in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, old)

    def dormant(model):
        active = FrontHalf(describe(model), "conv_3", pictures.images).mean_activation
        return active, np.argsort(active)[:4]

    _, decoys = dormant(net)
    active, first = dormant(made)
    assert set(first) == set(decoys)  # a defender who ranks by dormancy prunes these
    assert active[decoys].max() < 0.5 * np.delete(active, decoys).min()
    kernel = made.get_layer("conv_3").kernel.numpy()
    np.testing.assert_array_equal(kernel[..., decoys], before[0][..., decoys])
    stamped = trigger.stamp(pictures.images, np.arange(len(pictures)))
    assert np.mean(predict_labels(made, stamped) == 2) > 0.7
    assert np.mean(predict_labels(made, pictures.images) == pictures.labels) > 0.9
