"""A folder that is nothing as a whole, as one of downloaded files is."""

from __future__ import annotations

from typing import final

from huggingvis.checkpoints.kinds import Kind, Subject


@final
class _Folder(Kind):
    name, title, rank = "folder", "a folder that is no model", 990

    def found(self, subject: Subject) -> bool:
        return subject.is_folder and not subject.settings


KIND = _Folder()
