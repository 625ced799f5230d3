"""An IP-Adapter: what projects a picture's embedding to tokens, and the keys and values that read them."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.bases import base_of
from huggingvis.checkpoints.kinds import Kind, Subject, Told
from huggingvis.checkpoints.looks.nets import refusal
from huggingvis.core.errors import FileProblem


@final
class _IPAdapter(Kind):
    name, title, rank, adapter = "ip-adapter", "an IP-Adapter", 45, True

    def found(self, subject: Subject) -> bool:
        return subject.foreign("an IP-Adapter")

    def tell(self, subject: Subject) -> Told:
        from huggingvis.checkpoints.ip_adapter_files import ip_file, projection_of  # they need torch
        from huggingvis.core.hollow import hollow

        base = None
        try:
            file = ip_file(subject.path)
            base = base_of(file.tokens)
            with hollow():
                projection_of(file)  # which refuses the forms that are not read here
        except FileProblem as error:
            why = refusal(error, subject.path)
            return Told(base=base, refused=f"It {why}", sentences=(f"It {why}",))
        form, what, name = next(row for row in _FORMS if file.has(row[2]))
        width = file.size(name, 1)
        sentence = f"It is of the {form} form: it reads {what} of a CLIP image encoder, {width} wide."
        return Told(base=base, sentences=(sentence,), facts={"form": form, "reads": width})


_FORMS = (
    ("base", "the embeddings", "proj.weight"),
    ("full", "the patches", "proj.0.weight"),
    ("plus", "the patches", "proj_in.weight"),
)
KIND = _IPAdapter()
