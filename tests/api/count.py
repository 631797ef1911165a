"""Adds up the JUnit reports of schemathesis and says `N passed, M failed`.

    count.py OUTCOME REPORT...

What failed without a count is a failure too: an OUTCOME that is not 0, a report that is not there."""

import sys
import xml.etree.ElementTree as tree
from pathlib import Path


def main():
    passed = failed = 0
    for report in map(Path, sys.argv[2:]):
        try:
            cases = list(tree.parse(report).iter("testcase"))
        except (OSError, tree.ParseError) as error:
            print(f"{report}: {error}")
            failed += 1
            continue
        for case in cases:
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif case.find("skipped") is None:
                passed += 1
    if sys.argv[1] != "0" and failed == 0:
        failed = 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
