"""What looks secret, and what stands in its place.

A mask is put where a name says so (`--password x`, `API_KEY=x`), where a value has a form that
only secrets have (a URL with a password, the tokens of well-known services), and nowhere else: a
password without either cannot be told from any other word.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
LONGEST = 4096  # characters of a word; longer ones are told by their length

# In names of environment variables, of which few are recorded anyway.
_VARIABLE = re.compile(
    r"token|secret|passw|passphrase|pwd|key|credential|auth|cookie", re.IGNORECASE
)

# In names of options and parameters, where `--tokenizer` and `--max-tokens` are no secrets.
_NAME = (
    r"(?:secret|passw|passphrase|credential|token(?!s?[-_]?(?:iz|is)|s(?![a-z]))"
    r"|(?:api|access|private|signing|auth|account)[-_]?key"
    r"|(?<![a-z])(?:key|auth|pwd|pass|authorization|cookie|signature|sig|sas|dsn)(?![a-z]))"
)
_OPTION = re.compile(rf"--?[\w.-]{{0,60}}{_NAME}", re.IGNORECASE)
_ASSIGNED = re.compile(rf"-{{0,2}}[\w.-]{{0,60}}{_NAME}[\w.-]{{0,60}}=", re.IGNORECASE)
_NAMED = re.compile(
    rf"({_NAME}[\w.-]{{0,60}}[\"']?\s{{0,4}}[=:]\s{{0,4}})"
    r"""("[^"]*"|'[^']*'|(?:bearer|basic)\s+[^\s"']+|[^\s&;,"']+)""",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#\"'<>]*@", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic)\s+[\w+/.=~-]{8,}", re.IGNORECASE)
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"gh[opusr]_\w{16,}|github_pat_\w{16,}|gl[a-z]{2,5}-[\w.-]{16,}"  # GitHub, GitLab
    r"|(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{12,}"  # AWS
    r"|[srp]k[-_][\w-]{16,}"  # OpenAI, Anthropic, Stripe
    r"|hf_\w{16,}|r8_\w{16,}|npm_\w{16,}|pypi-[\w-]{16,}|dckr_pat_[\w-]{16,}"
    r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|SG\.[\w-]{10,}\.[\w-]{10,}"  # Slack, SendGrid
    r"|AIza[\w-]{20,}|ya29\.[\w-]{16,}|GOCSPX-[\w-]{16,}"  # Google
    r"|dop_v1_\w{16,}|shp[a-z]{2}_\w{16,}|glsa_\w{16,}|dapi[0-9a-f]{32}"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"  # JSON web tokens
    r")"
)
_PRIVATE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL
)


def mask_text(text: str) -> str:
    """`text` without what looks secret in it."""
    if len(text) > LONGEST:
        return f"<{len(text):,} characters>"
    text = _PRIVATE.sub(MASK, text)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _NAMED.sub(rf"\1{MASK}", text)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    return _TOKEN.sub(MASK, text)


def mask_variable(name: str, value: str) -> str:
    """The value of an environment variable."""
    return MASK if _VARIABLE.search(name) else mask_text(value)


def mask_command(words: Iterable[str]) -> list[str]:
    """A command line; what follows `--password` is masked, too."""
    masked = []
    hidden = False
    for word in words:
        assigned = _ASSIGNED.match(word)
        if hidden and not word.startswith("--"):
            masked.append(MASK)
        elif assigned:
            masked.append(assigned.group() + MASK)
        else:
            masked.append(mask_text(word))
        hidden = "=" not in word and _OPTION.match(word) is not None
    return masked


def mask_remote(url: str) -> str:
    """The address of a repository without credentials; the user of ssh is none."""
    scheme, mark, rest = url.partition("://")
    if mark:
        authority, slash, path = rest.partition("/")
        user, _, host = authority.rpartition("@")
        name = user.partition(":")[0]
        keep = name and "ssh" in scheme.lower()
        url = f"{scheme}://{name + '@' if keep else ''}{host}{slash}"
        return url + mask_text(path)
    return mask_text(url)
