"""What can go wrong outside the program: each message is one line that names the thing at fault."""


def one_line(error: object, most: int | None = 200) -> str:
    """What an error says, in a line of at most so many characters, those escaped that a terminal might obey."""
    line = " ".join(str(error).split())
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)[:most]


class ToolkitError(Exception):
    """A problem in the world rather than in the code: a file missing or damaged, a package not installed."""


class BundleError(ToolkitError):
    """A bundle is missing, damaged, or of a format that this version does not read."""


class DataError(ToolkitError):
    """A data file or picture is damaged, or is not what its name says."""


class MissingDataError(DataError):
    """Files of a data set are not where they were looked for."""


class ProviderError(ToolkitError):
    """An execution provider was asked for that this onnxruntime does not have."""
