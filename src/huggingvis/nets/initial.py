"""Initial weights that keep the size of activations from layer to layer.

He, Zhang, Ren & Sun 2015, "Delving Deep into Rectifiers" (arXiv 1502.01852), Eq. 10: deviation sqrt(2 / fan-in), biases
at zero. PyTorch's own default is a third of it in variance, so that signals die in a narrow bottleneck and a training's
first hundreds of steps are spent on bringing them back. Book: chapter 1.
"""

from __future__ import annotations

from torch import nn


def he_weights(net: nn.Module) -> None:
    """Fresh weights for every linear and convolutional layer of `net`, in place."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
