"""Hold the corpus against the rule.

    cd tests && PYTHONPATH=../build/tree:. python -m hostile                      # every case
    cd tests && PYTHONPATH=../build/tree:. python -m hostile images --every 8     # a part of one group
    cd tests && PYTHONPATH=../build/tree:. python -m hostile images --match eps   # cases with this text in their names

Prints a line for each case that does not hold, and at the end a JSON line with the count of cases and what failed.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

from hostile.corpus import GROUPS, chosen
from hostile.rule import failures, prepared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(group.name for group in GROUPS)}")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th case, and all with an h number")
    parser.add_argument("--match", default="", metavar="REGEX", help="only cases whose names match")
    parser.add_argument("--list", action="store_true", help="print the names of the cases as JSON, and run nothing")
    args = parser.parse_args()
    groups = [group for group in GROUPS if not args.groups or group.name in args.groups]
    counts, failed = {}, {}
    with tempfile.TemporaryDirectory() as base:
        for group in groups:
            good = Path(base, group.prepare.__module__, group.prepare.__name__)  # groups may share good files
            cases = [case for case in chosen(prepared(group, good), args.every) if re.search(args.match, case.name)]
            found = {} if args.list else failures(group, cases, good)
            counts[group.name] = [case.name for case in cases] if args.list else len(cases)
            failed.update({f"{group.name}: {name}": problems for name, problems in found.items()})
            for name, problems in found.items():
                print(f"{group.name}: {name}: {'; '.join(problems)}")
    print(json.dumps(counts if args.list else {"cases": counts, "failed": failed}))


if __name__ == "__main__":
    main()
