"""Operations that a faster implementation may replace: nets call `ops.attention`, `runtime` swaps what stands behind.

Each operation has a plain reference here; a replacement is tested against it.
"""

from huggingvis.core.ops.attention import attention, attention_with_probs
from huggingvis.core.ops.registry import implementation, replace

__all__ = ["attention", "attention_with_probs", "implementation", "replace"]
