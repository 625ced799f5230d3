"""Operations that a faster implementation may replace: nets call `ops.attention`, `runtime` swaps what stands behind.

Each operation has a plain reference here; a replacement is tested against it.
"""

from .attention import attention, attention_with_probs
from .registry import implementation, replace

__all__ = ["attention", "attention_with_probs", "implementation", "replace"]
