"""LeNet-5: the classic reader of handwritten digits, here a judge of generated ones.

LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", section II.B, in today's
usual dress: ReLU for tanh, max-pooling for trained averages, softmax for radial basis functions.
Book: chapter 9, "Judges".
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F


@final
class LeNet5(nn.Module):
    """x [B, 1, 32, 32] in [0, 1] -> logits [B, classes]."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, classes)

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, [B, 84]."""
        h = F.max_pool2d(F.relu(self.conv1(x)), 2)  # [B, 6, 14, 14]
        h = F.max_pool2d(F.relu(self.conv2(h)), 2)  # [B, 16, 5, 5]
        h = F.relu(self.conv3(h)).flatten(1)  # [B, 120]
        return F.relu(self.fc1(h))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.features(x))
