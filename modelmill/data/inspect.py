"""All checks over the data, before any training."""

from __future__ import annotations

from modelmill.dataset import Splits
from modelmill.errors import ContentError
from modelmill.finding import Finding
from modelmill.method import decode, names

ORDER = {"fatal": 0, "warning": 1, "note": 2}


def inspect(splits: Splits) -> list[Finding]:
    """What reading and every check noticed, warnings first.

    Raises ContentError for the first finding that is fatal: no model can be made of these data.
    """
    checks = sorted(names("check"), key=lambda name: (name not in ("enough", "target"), name))
    found = list(splits.train.findings)
    for name in checks:
        for finding in decode("check", {"method": name})(splits):
            if finding.severity == "fatal":
                raise ContentError(finding.where, finding.message, finding.hint)
            found.append(finding)
    return sorted(found, key=lambda finding: ORDER[finding.severity])
