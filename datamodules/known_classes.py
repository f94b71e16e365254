"""The classes of a data set: names, colours and ids."""

from __future__ import annotations

from collections.abc import Sequence

from src.core.colours import Colour, distinct_colours
from src.core.errors import UserError


class KnownClasses:
    """Names, colours and ids of the classes in a data set's masks."""

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in id order; none by default, for unlabelled data."""
        return []

    @property
    def palette(self) -> list[Colour]:
        """RGB colour of each class; distinct hues by default."""
        return distinct_colours(self.num_classes)

    @property
    def ids(self) -> list[int]:
        """The id of each class in the data set's own mask files, in which predicted masks are written."""
        return list(range(self.num_classes))

    @property
    def class_ids(self) -> list[int]:
        """The data set's own id of each class, in the order of `class_names`."""
        return list(self.ids)

    def expect_classes(self, ids: Sequence[int], names: Sequence[str]) -> None:
        """Check that the classes are those that a head was trained on.

        Args:
            ids: `class_ids` of the data that the head was trained on.
            names: Their names.

        Raises:
            UserError: If this data set has other classes, with both lists.
        """
        if list(ids) != self.class_ids or list(names) != self.class_names:
            raise UserError(
                f"{type(self).__name__}: expected the classes that the head was trained on, {described(ids, names)}, "
                f"found {described(self.class_ids, self.class_names)}; use data with the same classes, or train a "
                "head on these"
            )

    @property
    def submission(self) -> bool:
        """True if predictions are for a benchmark's server: a zip of masks without folders, ids 0, 1, …"""
        return False

    @property
    def num_classes(self) -> int:
        """Number of classes, ignored pixels not counted."""
        return len(self.class_names)


def described(ids: Sequence[int], names: Sequence[str]) -> str:
    """Classes as messages show them: `0 soil, 1 crop`."""
    return ", ".join(f"{i} {name}" for i, name in zip(ids, names, strict=True))
