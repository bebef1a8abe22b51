"""What a server complains of, made into the reason why there is no answer."""

from dataclasses import dataclass

from mutate.llm import Scope, Unavailable

BUSY = frozenset({429, 503, 529})
"""Status codes by which a server asks for fewer calls."""
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_KEY = (
    "set ANTHROPIC_API_KEY to a valid key, or ANTHROPIC_BASE_URL to a local server that needs none"
)
_CREDIT = "add credit or raise the limit at https://platform.claude.com, or use another key"


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error as a server words it, secrets taken out.

    Attributes:
        status: of the response, 200 where it came in the middle of a stream.
        kind, code: `error.type` and `error.details.error_code`, empty where there is none.
        message: bounded.
        retry_after_s: after how long the server wants to be asked again.
    """

    status: int
    kind: str = ""
    code: str = ""
    message: str = ""
    retry_after_s: float | None = None

    @property
    def meant(self) -> int:
        """The status code that says the same, for an error in mid-stream, too."""
        return self.status if self.status != 200 else _STATUS.get(self.kind, 500)

    def unavailable(self, model: str) -> Unavailable:
        """Return it as the reason why a model did not answer, with the remedy."""
        said = f" ({self.message})" if self.message else ""
        reason, detail, scope = self._meaning(model, said)
        return Unavailable(reason, detail, scope, self.retry_after_s)

    def _meaning(self, model: str, said: str) -> tuple[str, str, Scope]:
        if self._about_money:
            return "no_credit", f"the account has no credit left{said}: {_CREDIT}", Scope.PROVIDER
        match self.meant:
            case 403:
                remedy = "`--llm` names another, or ask for access"
                detail = f"the key may not use {model}{said}: {remedy}"
                return "forbidden", detail, Scope.MODEL
            case 401:
                return "invalid_key", f"the server refuses the key{said}: {_KEY}", Scope.PROVIDER
            case 404:
                remedy = "`--llm` names another, ANTHROPIC_BASE_URL another server"
                detail = f"the model {model} is retired or unknown{said}: {remedy}"
                return "unknown_model", detail, Scope.MODEL
            case 400 | 413 | 422:
                detail = f"{model} does not take this request{said}: a shorter prompt may help"
                return "bad_request", detail, Scope.CALL
            case 429:
                detail = f"the rate limit is reached{said}: wait, or ask less often"
                return "rate_limited", detail, Scope.CALL
            case 503 | 529:
                detail = f"the server is overloaded{said}: wait, or ask another model"
                return "overloaded", detail, Scope.CALL
            case 408 | 504:
                return "timeout", f"the server took too long{said}: ask again", Scope.CALL
            case status if status >= 500:
                detail = f"the server failed with status {status}{said}: ask again later"
                return "server_error", detail, Scope.CALL
            case status:
                detail = f"unexpected status {status}{said}: check ANTHROPIC_BASE_URL"
                return "failed", detail, Scope.CALL

    @property
    def _about_money(self) -> bool:
        low = self.meant == 400 and "credit balance" in self.message.lower()
        spent = "spend_limit" in self.code or "billing" in self.code
        return low or spent or self.meant == 402 or self.kind == "billing_error"
