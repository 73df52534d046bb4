"""Errors that have a meaning of their own."""


class NothingToShow(ValueError):  # noqa: N818 - what is said of a view, often no error at all
    """A view has nothing to show of this model, such as maps of one without convolutions.

    Among all views of a report the reason is in the view's place. Any other error of a view is
    an error.
    """
