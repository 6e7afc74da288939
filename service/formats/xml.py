"""Text in XML output."""

from __future__ import annotations

import re

# Not representable in XML 1.0: control characters, surrogates and two noncharacters.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(text: str) -> str:
    """Replace characters that XML 1.0 cannot represent."""
    return _NOT_XML.sub("\ufffd", text)
