"""The allow-list: the only layers that a suspect net may be made of.

Each kind knows its settings (every other key is refused), the exact shapes of its weights, the
shape of its result and how it computes it; none of them can hold code.
"""

from badnet_defense.nets.layers.activation import Activation, LeakyReLU, ReLU, Softmax
from badnet_defense.nets.layers.convolution import Conv2D, DepthwiseConv2D, SeparableConv2D
from badnet_defense.nets.layers.dense import Dense
from badnet_defense.nets.layers.merge import Add, Concatenate, Multiply, Subtract
from badnet_defense.nets.layers.normalisation import BatchNormalization, Rescaling
from badnet_defense.nets.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from badnet_defense.nets.layers.shape import (
    Dropout,
    Flatten,
    InputLayer,
    Reshape,
    SpatialDropout2D,
    ZeroPadding2D,
)

_ALLOWED = (
    *(Activation, Add, AveragePooling2D, BatchNormalization, Concatenate, Conv2D, Dense),
    *(DepthwiseConv2D, Dropout, Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D, InputLayer),
    *(LeakyReLU, MaxPooling2D, Multiply, ReLU, Rescaling, Reshape, SeparableConv2D, Softmax),
    *(SpatialDropout2D, Subtract, ZeroPadding2D),
)
SCHEMAS = {kind.__name__: kind for kind in _ALLOWED}
