"""A condition that changes between steps: which of several readings of a prompt each step is told.

Prompt editing (`[a:b:0.5]`) and alternating words (`[a|b]`) of AUTOMATIC1111's web UI. Readings lie in the condition
under `variant.N.` before their ports' names, those of negative prompts under `negative.variant.N.`; the loop tells the
number of the step. This goes around every other guidance, which then sees a condition as usual. Book: chapter 6, "What
a prompt can say".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from huggingvis.core.belief import Belief
from huggingvis.core.protocols import Cond, Denoiser
from huggingvis.guidance.cfg import NEGATIVE

SYSTEM = {
    "name": "Prompting",
    "chapter": 6,
    "files": [
        "systems/prompt_plan.py",
        "systems/prompt_reading.py",
        "codecs/prompt_tree.py",
        "codecs/prompt_grammar.py",
        "codecs/prompt_script.py",
        "codecs/prompt_chunks.py",
        "codecs/prompt_templates.py",
        "codecs/prompt_styles.py",
    ],
    "built": "tests/walks/test_prompt_walks.py::test_the_web_uis_language_is_read_by_the_model_that_ships",
    "exact": [
        "tests/oracle/test_prompt_grammar.py::test_what_is_printed_is_what_was_read",
        "tests/oracle/test_prompt_grammar.py::test_schedules_of_the_web_ui",
        "tests/interop/test_prompt_weights.py::test_weights_multiply_states_and_the_mean_is_restored",
        "tests/interop/test_prompt_weights.py::test_weight_one_is_identity",
        "tests/walks/test_prompt_walks.py::test_a_prompt_that_changes_is_two_prompts_one_after_another",
    ],
    "trained": None,
    "explained": None,
    "usable": None,
}

VARIANT, AND = "variant.", "and."


@final
@dataclass(frozen=True)
class ByStep:
    """`table`: for each step the numbers of what it is told: of every prompt that AND joins, last the negative one.

    Steps after the table's last are told what that was. Without a loop (`step` stays 0) the first holds.
    """

    table: tuple[tuple[int, ...], ...]

    def __call__(self, denoise: Denoiser) -> Denoiser:
        def changing(x: Tensor, t: Tensor, cond: Cond) -> Belief:
            step = min(int(cond["step"][0]), len(self.table) - 1)
            return denoise(x, t, self.told(cond, step))

        return changing

    def told(self, cond: Cond, step: int) -> Cond:
        """The condition at a step, as it would be if nothing changed."""
        *prompts, away = self.table[step]
        places = {f"{AND}{n}." if n else "": f"{VARIANT}{number}." for n, number in enumerate(prompts)}
        places[NEGATIVE] = f"{NEGATIVE}{VARIANT}{away}."
        here = {k: v for k, v in cond.items() if not k.removeprefix(NEGATIVE).startswith(VARIANT) and k != "step"}
        for place, source in places.items():
            here |= {place + k.removeprefix(source): v for k, v in cond.items() if k.startswith(source)}
        return here
