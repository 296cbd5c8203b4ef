"""The user's errors that point at no line of a program: data, files, settings."""


class UserError(Exception):
    """A mistake of the user's, told in one message; a `hint` says what would be right."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}\n   = hint: {self.hint}" if self.hint else message
